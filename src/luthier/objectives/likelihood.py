"""The likelihood of labels from hidden states: output layer and cross-entropy together, in chunks.

Never more than `CHUNK` rows of logits stand in memory, and their gradient is formed while they do: with p the
softmax and e the label's unit vector, d nll / d hidden = (p - e) W (as Liger does, Hsu et al. 2024). What trains of
the output layer itself gets its gradient in the same pass where all rows weigh the same, and in a second pass else.

Shapes: N labelled positions, D width, V vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from luthier.models.arithmetic import explicit, working_dtype

CHUNK, ROUND = 512, 32  # rows at once, and what their number is a multiple of


def nll(hidden: Tensor, weight: Tensor, bias: Tensor | None, labels: Tensor) -> Tensor:
    """-ln p(label) in nats, (N,), in fp32 at least: hidden (N, D), weight (V, D), bias (V,), labels (N,)."""
    return explicit(_Nll, hidden, weight, bias, labels, working_dtype(hidden), torch.is_grad_enabled())


class _Nll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        labels: Tensor,
        dtype: torch.dtype,
        learning: bool,
    ) -> Tensor:
        needs = ctx.needs_input_grad[:3] if learning else (False, False, False)
        losses, gradients = _pass(hidden, weight, bias, labels, dtype, needs, None)
        ctx.save_for_backward(hidden, weight, bias, labels, *gradients)
        ctx.dtype = dtype
        return losses

    @staticmethod
    def backward(ctx: Any, *given: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, labels, d_hidden, d_weight, d_bias = ctx.saved_tensors
        scale = given[0]
        if d_hidden is not None:
            d_hidden = (d_hidden * scale[:, None]).to(hidden.dtype)
        if d_weight is not None or d_bias is not None:
            if len(scale) and bool((scale == scale[0]).all()):
                d_weight, d_bias = (None if part is None else part.mul_(scale[0]) for part in (d_weight, d_bias))
            else:
                needs = (False, d_weight is not None, d_bias is not None)
                _, (_, d_weight, d_bias) = _pass(hidden, weight, bias, labels, ctx.dtype, needs, scale)
        return d_hidden, d_weight, d_bias, None, None, None


def _pass(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    labels: Tensor,
    dtype: torch.dtype,
    needs: tuple[bool, ...],
    scale: Tensor | None,
) -> tuple[Tensor, list[Tensor | None]]:
    """The losses (N,), and the gradients of hidden, weight and bias that are needed, row i weighed by scale[i]."""
    wide = torch.promote_types(dtype, torch.float32)
    # whole chunks of rows: a processor's kernels are made anew for each shape that they meet
    states, table = pad(hidden.to(dtype), (0, 0, 0, -len(labels) % ROUND)), weight.to(dtype)
    labels, real = pad(labels, (0, len(states) - len(labels))), len(labels)
    losses = torch.empty(len(states), dtype=wide, device=hidden.device)
    d_hidden = torch.empty_like(states) if needs[0] else None
    d_weight = torch.zeros_like(weight) if needs[1] else None
    d_bias = torch.zeros_like(bias) if bias is not None and needs[2] else None
    for start in range(0, len(labels), CHUNK):
        rows = slice(start, start + CHUNK)
        own = labels[rows, None]
        logits = (states[rows] @ table.T).to(wide)
        if bias is not None:
            logits += bias
        logs = torch.log_softmax(logits, -1)
        del logits
        losses[rows] = -logs.gather(1, own).squeeze(1)
        if not any(needs):
            continue
        d_logits = logs.exp_()
        d_logits.scatter_add_(1, own, torch.full_like(own, -1, dtype=wide))
        d_logits[max(real - start, 0) :] = 0
        if scale is not None:
            d_logits[: real - start] *= scale[rows, None]
        given = d_logits.to(dtype)
        if d_hidden is not None:
            torch.mm(given, table, out=d_hidden[rows])
        if d_weight is not None:
            d_weight += given.T @ states[rows]
        if d_bias is not None:
            d_bias += d_logits.sum(0)
    return losses[:real], [None if d_hidden is None else d_hidden[:real], d_weight, d_bias]
