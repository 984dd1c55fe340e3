"""Frozen weights kept in the arithmetic's own type."""

from __future__ import annotations

from torch import nn

from luthier.engine.device import DTYPES
from luthier.models.halves import halve, linear_layers


def halve_frozen(model: nn.Module, precision: str) -> None:
    """Turn the frozen weights of linear layers into the type that `precision` computes in; fp32 leaves all as it is.

    Those that were loaded in that type are left as they are. An output layer that shares its table with the
    embeddings gets one of its own.
    """
    if precision not in DTYPES:
        return
    for layer in linear_layers(model):
        if not layer.weight.requires_grad and layer.weight.dtype != DTYPES[precision]:
            halve(layer, DTYPES[precision])
