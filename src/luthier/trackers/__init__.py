"""Where a training's figures are shown beside `metrics.jsonl`: one file per tracker, and the table of them."""

from luthier.core.tables import Table
from luthier.trackers.contract import TrackerEntry

TRACKERS: Table[TrackerEntry] = Table(
    "tracker",
    {
        "tensorboard": "luthier.trackers.tensorboard:TENSORBOARD",
        "mlflow": "luthier.trackers.mlflow:MLFLOW",
        "wandb": "luthier.trackers.wandb:WANDB",
    },
)
