"""Stage 6: what is handed to others, each kind in one file, and the table of them."""

from luthier.core.tables import Table
from luthier.deploy.contract import Export

EXPORTS: Table[Export] = Table(
    "export",
    {
        "adapter": "luthier.deploy.adapter:ADAPTER",
        "merged": "luthier.deploy.merged:MERGED",
    },
)
