"""Optimisers, by name."""

from __future__ import annotations

from luthier.core.tables import Table
from luthier.engine.optimizers.contract import OptimizerEntry

OPTIMIZERS: Table[OptimizerEntry] = Table(
    "optimizer",
    {
        "sgd": "luthier.engine.optimizers.sgd:SGD",
        "adagrad": "luthier.engine.optimizers.scaled:ADAGRAD",
        "rmsprop": "luthier.engine.optimizers.scaled:RMSPROP",
        "adadelta": "luthier.engine.optimizers.scaled:ADADELTA",
        "adam": "luthier.engine.optimizers.adam:ADAM",
        "adamw": "luthier.engine.optimizers.adam:ADAMW",
        "adamw-8bit": "luthier.engine.optimizers.quantised:ADAMW_8BIT",
        "adamw-paged": "luthier.engine.optimizers.quantised:ADAMW_PAGED",
        "adafactor": "luthier.engine.optimizers.adafactor:ADAFACTOR",
        "lion": "luthier.engine.optimizers.lion:LION",
        "galore": "luthier.engine.optimizers.galore:GALORE",
        "muon": "luthier.engine.optimizers.muon:MUON",
        "lomo": "luthier.engine.optimizers.lomo:LOMO",
        "mezo": "luthier.engine.optimizers.mezo:MEZO",
    },
)
