"""LongRoPE (Ding et al. 2024) in packed rows: every sequence turns by the frequencies of its own length.

A model of this kind (Phi-3.5, Phi-4-mini) has two sets, for sequences up to the length that it was first trained with
and for longer ones. transformers chooses by the largest position in the row, so that one long sequence would change
all that are packed with it.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from luthier.models.attention import current


def adopt_longrope(model: PreTrainedModel) -> None:
    """Let a model's rotary embeddings choose sequence by sequence where rows are packed."""
    for module in model.modules():
        own = type(module)
        if getattr(module, "rope_type", None) == "longrope" and not issubclass(own, PerSequence):
            module.__class__ = type(own.__name__, (PerSequence, own), {})


class PerSequence:
    """Rotary positions of a packed row, mixed into a family's own class."""

    def forward(self: Any, x: Tensor, position_ids: Tensor) -> tuple[Tensor, ...]:
        """position_ids (1, T) -> cos and sin (1, T, R)."""
        own: Any = super()
        boundaries = current()
        if boundaries is None:
            return own.forward(x, position_ids)
        each = [own.forward(x, part) for part in position_ids.split(boundaries.lengths, dim=1)]
        return tuple(torch.cat(parts, dim=1) for parts in zip(*each, strict=True))
