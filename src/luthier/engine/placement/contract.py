"""The placement contract: how many processes train a model together, and what each of them holds of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel
from transformers import PreTrainedModel

from luthier.methods.contract import Trainable
from luthier.recipe.schema import Training


def _any_model(model: PreTrainedModel, config: Any) -> None:
    pass


@dataclass(frozen=True)
class Placement:
    """An entry of the table.

    `lacking(training)` says why these settings cannot be placed so, None where they can. `processes(config, started,
    device)` is how many processes train together (0: this one alone, as if there were no other), each on a device of
    that kind, where `started` is how many a launcher has started already, 0 if none has; it raises UserError where
    they do not fit this machine. `place(trainable, config, device)` puts a trainable, in place, onto the devices of
    all of them, and gives it with the parameters that it now has. `cuts`: each computes with a part of every layer,
    so that all must read the same rows; else each reads its share of them. `fits(model, config)` raises UserError
    where a model, made ready for training, cannot be placed so: asked wherever a job is built, be it for a plan.
    """

    config: type[BaseModel]
    lacking: Callable[[Training], str | None]
    processes: Callable[[Any, int, torch.device], int]
    place: Callable[[Trainable, Any, torch.device], Trainable]
    cuts: bool = False
    fits: Callable[[PreTrainedModel, Any], None] = _any_model
