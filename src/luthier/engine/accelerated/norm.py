"""Root-mean-square normalisation (Zhang and Sennrich 2019) as an autograd function.

    y = x r w,  r = (mean(x^2) + eps)^(-1/2)        dx = r (g - x r mean(g x r)),  g = dL/dy w

Kept for the backward pass: x, which the residual stream holds anyway, and r. Shapes: T tokens, D width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from luthier.models.arithmetic import explicit, working_dtype


def rms_norm(x: Tensor, weight: Tensor, eps: float, offset: float = 0.0) -> Tensor:
    """x (..., D) -> (..., D) in the working type, in fp32 within; `offset` is added to the weight (Gemma: 1)."""
    return explicit(_Norm, x, weight, eps, offset, working_dtype(x))


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, offset: float, dtype: torch.dtype) -> Tensor:
        wide = x.to(_wide(x))
        length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
        r = length.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, r, weight)
        ctx.offset = offset
        return (wide * r).mul_(_scale(weight, offset, wide.dtype)).to(dtype)

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        x, r, weight = ctx.saved_tensors
        wide = x.to(r.dtype)
        normed, d = wide * r, given[0].to(r.dtype)
        d_weight = None
        if ctx.needs_input_grad[1]:
            d_weight = (d * normed).flatten(0, -2).sum(0).to(weight.dtype)
        dx = None
        if ctx.needs_input_grad[0]:
            g = d * _scale(weight, ctx.offset, r.dtype)
            share = torch.linalg.vecdot(g, normed).unsqueeze(-1).div_(-x.shape[-1])
            dx = g.addcmul_(normed, share).mul_(r).to(x.dtype)
        return dx, d_weight, None, None, None


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


def _scale(weight: Tensor, offset: float, dtype: torch.dtype) -> Tensor:
    return weight.to(dtype) + offset if offset else weight.to(dtype)
