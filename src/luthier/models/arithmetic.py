"""The arithmetic that autograd functions of our own compute in: that of the autocast around them, made explicit."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def working_dtype(states: Tensor) -> torch.dtype:
    """What products of these states are computed in: autocast's type where it is on, else their own."""
    kind = states.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else states.dtype


def explicit(function: type[torch.autograd.Function], states: Tensor, *arguments: Any) -> Any:
    """Apply an autograd function that chooses its types itself: autocast would widen its softmax and cast twice."""
    with torch.autocast(states.device.type, enabled=False):
        return function.apply(states, *arguments)
