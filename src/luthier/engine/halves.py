"""Frozen weights kept in the arithmetic's own type.

Autocast turns the weight of every linear layer into half precision each time it is used. A weight that never changes
can be turned once: the same numbers, half the memory, and no conversion in every step. What trains, embeddings and
norms stay in fp32, and with them the residual stream.
"""

from __future__ import annotations

from torch import nn
from transformers.pytorch_utils import Conv1D

from luthier.engine.device import DTYPES


def halve_frozen(model: nn.Module, precision: str) -> None:
    """Turn the frozen weights of linear layers into the type that `precision` computes in; fp32 leaves all as it is.

    An output layer that shares its table with the embeddings gets one of its own.
    """
    if precision not in DTYPES:
        return
    for module in model.modules():
        if isinstance(module, nn.Linear | Conv1D) and not module.weight.requires_grad:
            half = module.weight.detach().to(DTYPES[precision])
            module.weight = nn.Parameter(half, requires_grad=False)
