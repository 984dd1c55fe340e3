"""One forward pass, in which only the labelled positions reach the output layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from luthier.models.attention import Boundaries, current, packed
from luthier.models.head import is_plain, output_layer
from luthier.objectives.contract import Batch, Outputs

ROUND = 32  # a last layer that is computed at the labelled positions only has a multiple of so many rows


@contextmanager
def boundaries(batch: Batch) -> Iterator[None]:
    """Holds the boundaries of packed sequences for the attention; forward and backward both run inside."""
    if batch.lengths is None:
        yield
        return
    where = _rounded(batch.where, sum(batch.lengths) - 1)
    with packed(Boundaries(batch.lengths, batch.answers, where, where.device)):
        yield


def _rounded(where: Tensor, last: int) -> Tensor:
    """The labelled positions and, to a multiple of `ROUND` that is not 0, the last of the filler again and again."""
    rest = -len(where) % ROUND if len(where) else ROUND
    return torch.cat([where, where.new_full((rest,), last)])


def forward(model: PreTrainedModel, batch: Batch) -> Outputs:
    """What the model says at the N labelled positions of the batch; call it, and the backward pass, in `boundaries`.

    Where the logits are plainly the output layer's product, the layer is given no row at all: the objective computes
    what it needs from the hidden states, chunk by chunk.
    """
    layer: Any = output_layer(model)
    plain = is_plain(layer)
    with _taken(layer, batch.where, keep=not plain) as hidden:
        logits: Tensor = model(**batch.inputs, use_cache=False).logits
    if plain:
        return Outputs(hidden=hidden[0], head=layer)
    return Outputs(logits=logits.flatten(0, -2))


@contextmanager
def _taken(layer: nn.Module, where: Tensor, keep: bool) -> Iterator[list[Tensor]]:
    """Let only these rows (flattened, row-major) of the hidden states (B, T, D) into the output layer, or none.

    A hook on the output layer is exact for every family: what a model does before and after it (scaling, soft caps)
    stays in place, which is not so when head and body are called by hand. A last layer that was computed at the
    labelled positions only gives just these rows.
    """
    taken: list[Tensor] = []

    def select(module: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor]:
        rows = args[0].reshape(-1, args[0].shape[-1])
        boundaries = current()
        chosen = boundaries is not None and boundaries.taken
        rows = rows[: len(where)] if chosen else rows.index_select(0, where)
        taken.append(rows)
        return (rows[None] if keep else rows[None, :0],)

    handle = layer.register_forward_pre_hook(select)
    try:
        yield taken
    finally:
        handle.remove()
