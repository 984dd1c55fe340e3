"""One process and its device: the whole model, its gradients and its optimiser."""

from __future__ import annotations

import torch

from luthier.core.errors import UserError
from luthier.engine.placement.contract import Placement
from luthier.methods.contract import Trainable
from luthier.recipe.schema import Training
from luthier.recipe.values import Frozen


class OneDevice(Frozen):
    """One device has no options."""


def lacking(training: Training) -> None:
    """Everything trains on one device."""


def processes(config: OneDevice, started: int, device: torch.device) -> int:
    """None beside this one.

    Errors: UserError where a launcher has started several, which would have nothing to do.
    """
    if started > 1:
        raise UserError(
            f"{started} processes were started and train.placement is `one`: write train.placement: fsdp, or start a "
            "single one"
        )
    return 0


def place(trainable: Trainable, config: OneDevice, device: torch.device) -> Trainable:
    """The trainable as it is."""
    return trainable


ONE_DEVICE = Placement(OneDevice, lacking, processes, place)
