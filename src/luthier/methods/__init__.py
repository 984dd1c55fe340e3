"""What may change in a model: one file per method, and the table of them."""

from luthier.core.tables import Table
from luthier.methods.contract import Method

METHODS: Table[Method] = Table(
    "method",
    {
        "full": "luthier.methods.full:FULL",
        "lora": "luthier.methods.lora:LORA",
        "prompt": "luthier.methods.prompt:PROMPT",
    },
)
