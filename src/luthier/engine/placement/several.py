"""What placements on several processes ask: an optimiser that works on parts, and how many processes there are."""

from __future__ import annotations

import torch

from luthier.core.errors import UserError
from luthier.engine.optimizers import OPTIMIZERS
from luthier.recipe.schema import Training

KEY = "train.placement"


def elementwise(training: Training, placement: str) -> str | None:
    """Why an optimiser cannot be shared out: it looks at whole matrices, or keeps a state of another form."""
    name = training.optimizer.name
    if OPTIMIZERS[name].elementwise:
        return None
    known = ", ".join(other for other, entry in OPTIMIZERS.items() if entry.elementwise)
    return f"{name} cannot do with the part of a matrix that {placement} leaves each process: take one of {known}"


def processes_for(placement: str, wanted: int | None, started: int, device: torch.device) -> int:
    """As many as the recipe says or a launcher has started, else as there are GPUs.

    Errors: UserError where that is more than there are GPUs, none are there, or both say different numbers.
    """
    if device.type not in ("cuda", "cpu"):
        raise UserError(
            f"{KEY}: {placement} works on CUDA GPUs and on processors, not on {device.type}: leave it out"
        )
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    if started and wanted not in (None, started):
        raise UserError(f"{started} processes were started and {KEY}.processes is {wanted}: leave it out")
    count = started or wanted or gpus
    if not count:
        raise UserError(f"there is no GPU: write how many processes share the processor, such as {KEY}.processes: 2")
    if gpus and not started and count > gpus:
        raise UserError(f"{KEY}.processes is {count} and there are {gpus} GPUs: write {gpus} or less")
    return count
