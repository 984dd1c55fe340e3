"""Rotary positions (Su et al. 2021) as an autograd function: the backward pass is the rotation back.

Shapes: T tokens, H heads, D width of a head, of which the first R are rotated.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from luthier.models.arithmetic import explicit


def rotate(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """states (T, H, D), cos and sin (T, R) -> (T, H, D): of each head, halves of the first R are paired."""
    return explicit(_Rotate, states, cos, sin)


class _Rotate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(states, cos, sin)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return _turn(given[0], cos, -sin), None, None


def _turn(states: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    width = cos.shape[-1]
    half = width // 2
    cos, sin = (part[:, None, :half].to(states.dtype) for part in (cos, sin))
    turned = torch.empty_like(states, memory_format=torch.contiguous_format)
    first, second = states[..., :half], states[..., half:width]
    torch.mul(first, cos, out=turned[..., :half]).addcmul_(second, sin, value=-1)
    torch.mul(second, cos, out=turned[..., half:width]).addcmul_(first, sin)
    if width < states.shape[-1]:
        turned[..., width:] = states[..., width:]
    return turned
