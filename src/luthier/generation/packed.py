"""Linear layers on the processor with their weights laid out ahead, as inductor does for models that are frozen.

Generation multiplies a few rows by every weight of the model, again and again. The plain product lays each weight out
anew, or reads it in an order that is slow for few rows; oneDNN's own layout, made once, halves the time and more. It
takes the memory of the weights a second time, and is left out where there is little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psutil
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

SMALL = 1 << 15  # numbers of a weight below which nothing is gained
FAST = 1 << 18  # and below which the plain product of a single row is faster: it stays in the processor's cache
ROWS = 64  # of the batches that the layout is best for; it serves any
SHARE = 0.5  # of the free memory that the second copy may take
_onednn: Any = torch.ops.mkldnn


def pack(model: PreTrainedModel) -> list[nn.Linear]:
    """Let the model's linear layers compute with packed copies of their weights of now; the layers that do.

    Only for inference, and only until the weights change.
    """
    if model.device.type != "cpu" or not torch.backends.mkldnn.is_available() or torch.is_autocast_enabled("cpu"):
        return []
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and _gains(layer)]
    needed = sum(layer.weight.nbytes for layer in layers)
    if needed > SHARE * psutil.virtual_memory().available:
        return []
    for layer in layers:
        layer.forward = _product(layer)  # pyright: ignore[reportAttributeAccessIssue]
    return layers


@contextmanager
def packed(model: PreTrainedModel) -> Iterator[None]:
    """`pack` for the block."""
    layers = pack(model)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own is there again


def _gains(layer: nn.Linear) -> bool:
    return (
        type(layer) is nn.Linear  # one that computes no more than that
        and "forward" not in vars(layer)
        and layer.weight.dtype in (torch.float32, torch.bfloat16)
        and layer.weight.numel() >= SMALL
    )


def _product(layer: nn.Linear) -> Callable[[Tensor], Tensor]:
    weight = _onednn._reorder_linear_weight(layer.weight.detach(), ROWS)
    bias = None if layer.bias is None else layer.bias.detach()
    fast = layer.weight.numel() < FAST

    def product(states: Tensor) -> Tensor:
        if fast and states.numel() == states.shape[-1]:
            return F.linear(states, layer.weight, bias)
        return _onednn._linear_pointwise(states, weight, bias, "none", [], "")

    return product
