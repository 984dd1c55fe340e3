"""The method contract: make a model trainable, save what was trained, load it again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from torch import nn
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Trainable:
    """A model made ready for training.

    `model` is called as the transformers model it is. `parameters` are exactly those that train, by name, in an
    order that is the same every time; all others have `requires_grad` off. `prefix` are placeholder token ids (at
    or above the vocabulary's size) which batches and generation put before every input: virtual tokens.
    """

    model: PreTrainedModel
    parameters: dict[str, nn.Parameter]
    prefix: tuple[int, ...] = ()


@dataclass(frozen=True)
class Method:
    """An entry of the table.

    `prepare(model, config, seed)` changes the model in place; `save(trainable, folder, config, base)` writes the
    trained part in the format that others read (`base` is the name of the base model); `load(model, folder)` puts
    a saved part onto a fresh base for inference. `merge(trainable)` makes the model, in place, a plain one of its
    family that computes the same; None where no weights of it can hold what was trained. `adapter`: whether what
    `save` writes lies beside the base; else it is a whole model.
    """

    config: type[BaseModel]
    prepare: Callable[[PreTrainedModel, Any, int], Trainable]
    save: Callable[[Trainable, Path, Any, str], None]
    load: Callable[[PreTrainedModel, Path], Trainable]
    merge: Callable[[Trainable], None] | None = None
    adapter: bool = True
