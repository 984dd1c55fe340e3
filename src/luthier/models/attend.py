"""Attention of packed sequences by matrix products, block by block, with a backward pass of its own.

On a CPU this is faster than the fused kernels up to about a thousand tokens, whose backward pass is slow there, and
it takes what they do not: a bias that is trained (T5), one that depends on the head (ALiBi), queries at chosen places
only. What is kept for the backward pass are queries, keys, values and, of blocks that hold whole sequences, the
probabilities; of the stretches of long sequences these are computed again.

Shapes: T tokens, H heads, K heads of keys and values (G = H / K share one), D width of a head; n, b, e of a block.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from luthier.models.blocks import Block, Side


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    blocks: tuple[Block, ...],
    scale: float,
    bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """query (T, H, D), key and value (T', K, D) -> (T, H, D): softmax(scale q k + bias) v within each sequence.

    `bias` (H, L or 1, L') by the places of query and key in their sequence.
    """
    bias = None if bias is None else _wide_enough(bias, blocks)
    mixed: Tensor = _Attend.apply(query, key, value, bias, blocks, scale, dropout)  # pyright: ignore[reportAssignmentType]
    return mixed


def _wide_enough(bias: Tensor, blocks: tuple[Block, ...]) -> Tensor:
    """Zeros for the slots of padding that lie beyond the table."""
    queries = max((block.start + block.queries.length for block in blocks), default=0)
    keys = max((block.keys.length for block in blocks), default=0)
    below = 0 if bias.shape[1] == 1 else max(queries - bias.shape[1], 0)
    return pad(bias, (0, max(keys - bias.shape[2], 0), 0, below))


class _Attend(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        bias: Tensor | None,
        blocks: tuple[Block, ...],
        scale: float,
        dropout: float,
    ) -> Tensor:
        heads = key.shape[1]
        mixed = torch.empty_like(query, memory_format=torch.contiguous_format)
        kept: list[Tensor | None] = []
        for block in blocks:
            q, k, v = _queries(query, block, heads).mul_(scale), _keys(key, block), _keys(value, block)
            shares, drop = _shares(q, k, block, bias, heads), None
            if dropout:
                drop = torch.empty_like(shares).bernoulli_(1 - dropout).div_(1 - dropout)
            rows = torch.bmm(shares if drop is None else shares * drop, v)
            mixed[block.queries.rows] = _rows(rows, block.queries, heads)
            kept += [shares if block.whole or dropout else None, drop]
        ctx.save_for_backward(query, key, value, bias, *kept)
        ctx.settings = blocks, scale
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, bias, *kept = ctx.saved_tensors
        blocks, scale = ctx.settings
        heads = key.shape[1]
        d_query = torch.empty_like(query, memory_format=torch.contiguous_format)
        rows = sum(block.keys.rows.stop - block.keys.rows.start for block in blocks)
        once = rows == len(key) and all(block.whole for block in blocks)
        fresh = torch.empty_like if once else torch.zeros_like
        d_key, d_value = (fresh(states, memory_format=torch.contiguous_format) for states in (key, value))
        d_bias = None
        if bias is not None and ctx.needs_input_grad[3]:
            d_bias = torch.zeros_like(bias, dtype=torch.promote_types(bias.dtype, torch.float32))
        for block, shares, drop in zip(blocks, kept[::2], kept[1::2], strict=True):
            q, k, v = _queries(query, block, heads).mul_(scale), _keys(key, block), _keys(value, block)
            given = _queries(gradients[0], block, heads, real=True)
            if shares is None:
                shares = _shares(q, k, block, bias, heads)
            d_shares = torch.bmm(given, v.transpose(1, 2))
            if drop is not None:
                d_shares.mul_(drop)
            d_v = torch.bmm((shares if drop is None else shares * drop).transpose(1, 2), given)
            d_scores = torch.ops.aten._softmax_backward_data(d_shares, shares, -1, shares.dtype)
            if d_bias is not None:
                _add_bias(d_bias, d_scores, block, heads)
            d_query[block.queries.rows] = _rows(torch.bmm(d_scores, k).mul_(scale), block.queries, heads)
            d_k = torch.bmm(d_scores.transpose(1, 2), q)
            for total, part in ((d_key, d_k), (d_value, d_v)):
                rows = _rows(part, block.keys, heads)
                if once:
                    total[block.keys.rows] = rows
                else:
                    total[block.keys.rows] += rows
        return d_query, d_key, d_value, d_bias, None, None, None


def _queries(states: Tensor, block: Block, heads: int, real: bool = False) -> Tensor:
    """(T, H, D) -> (K n, b G, D); `real`: slots of padding are 0."""
    grouped = states.unflatten(1, (heads, -1)).transpose(0, 1)
    rows = block.queries.take_real(grouped) if real else block.queries.take(grouped)
    return rows.view(heads * block.count, -1, states.shape[-1])


def _rows(grid: Tensor, side: Side, heads: int) -> Tensor:
    """(K n, l G, D) -> (rows, K G, D)."""
    apart = grid.view(heads, -1, grid.shape[1] // side.length, grid.shape[-1])
    return side.give(apart).transpose(0, 1).flatten(1, 2)


def _keys(states: Tensor, block: Block) -> Tensor:
    """(T', K, D) -> (K n, e, D)."""
    rows = block.keys.take(states.transpose(0, 1))
    return rows.view(-1, block.keys.length, states.shape[-1])


def _shares(q: Tensor, k: Tensor, block: Block, bias: Tensor | None, heads: int) -> Tensor:
    """The probabilities (K n, b G, e) of queries that are scaled already."""
    scores = torch.bmm(q, k.transpose(1, 2))
    apart = scores.view(heads, block.count, block.queries.length, -1, block.keys.length)
    if bias is not None:
        apart.add_(_of_block(bias, block, heads))
    if block.hidden is not None:
        apart[..., block.first :].add_(block.hidden[:, :, None].to(scores.dtype))
    return torch.softmax(scores, -1)


def _of_block(bias: Tensor, block: Block, heads: int) -> Tensor:
    """The part (K, 1, b or 1, G, e) of a bias that a block needs."""
    rows = slice(0, 1) if bias.shape[1] == 1 else slice(block.start, block.start + block.queries.length)
    part = bias[:, rows, : block.keys.length]
    return part.view(heads, -1, *part.shape[1:]).transpose(1, 2)[:, None]


def _add_bias(total: Tensor, d_scores: Tensor, block: Block, heads: int) -> None:
    """Add the gradient of a block's scores to that of the bias."""
    apart = d_scores.view(heads, block.count, block.queries.length, -1, block.keys.length)
    part = _of_block(total, block, heads)
    part.add_(apart.sum(1, dtype=total.dtype, keepdim=True).sum_to_size(part.shape))
