"""One forward pass, in which only the labelled positions reach the output layer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from luthier.models.packing import packed
from luthier.objectives.contract import Batch, Outputs


@contextmanager
def boundaries(batch: Batch) -> Iterator[None]:
    """Holds the boundaries of packed sequences for the attention; forward and backward both run inside."""
    with nullcontext() if batch.lengths is None else packed(batch.lengths):
        yield


def forward(model: PreTrainedModel, batch: Batch) -> Outputs:
    """Logits (N, V) at the labelled positions of the batch; call it, and the backward pass, within `boundaries`."""
    with _only_rows(model, batch.where):
        logits: Tensor = model(**batch.inputs, use_cache=False).logits
    return Outputs(logits.flatten(0, -2))


@contextmanager
def _only_rows(model: PreTrainedModel, where: Tensor) -> Iterator[None]:
    """Let only these rows (flattened, row-major) of the hidden states (B, T, D) into the output layer.

    A hook on the output layer is exact for every family: what a model does before and after it (scaling, soft caps)
    stays in place, which is not so when head and body are called by hand.
    """

    def select(module: nn.Module, args: tuple[Any, ...]) -> tuple[Tensor]:
        hidden = args[0]
        return (hidden.reshape(1, -1, hidden.shape[-1]).index_select(1, where),)

    output_layer = model.get_output_embeddings()
    assert isinstance(output_layer, nn.Module)
    handle = output_layer.register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()
