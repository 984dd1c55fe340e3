"""Where a variant trains: on one device, or on several that share the model; the table of placements."""

from luthier.core.tables import Table
from luthier.engine.placement.contract import Placement

PLACEMENTS: Table[Placement] = Table(
    "placement",
    {
        "one": "luthier.engine.placement.one:ONE_DEVICE",
        "fsdp": "luthier.engine.placement.fsdp:FSDP",
        "tensor": "luthier.engine.placement.tensor:TENSOR",
    },
)
