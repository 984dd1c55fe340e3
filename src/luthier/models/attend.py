"""Attention of packed sequences by matrix products, block by block, with a backward pass of its own.

On a CPU this is faster than the fused kernels up to about a thousand tokens, whose backward pass is slow there, and
it takes what they do not: a bias that is trained (T5), one that depends on the head (ALiBi), queries at chosen places
only. What is kept for the backward pass are queries, keys and values as the products take them and the probabilities,
of long sequences only where dropout has struck some out; otherwise these are computed again.

Shapes: T tokens, H heads, K heads of keys and values (G = H / K share one), D width of a head; n, b, e of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from luthier.models.blocks import Block, Stretch


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
    queries = max((block.queries.length for block in blocks), default=0)
    keys = max((block.keys.length for block in blocks), default=0)
    below = 0 if bias.shape[1] == 1 else max(queries - bias.shape[1], 0)
    right = max(keys - bias.shape[2], 0)
    return pad(bias, (0, right, 0, below)) if below or right else bias  # nothing is copied for every layer


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
        kept: list[Tensor | None] = [bias]
        learning = any(ctx.needs_input_grad)
        for block in blocks:
            q = block.queries.take(query.unflatten(1, (heads, -1)), scale)
            k, v = (block.keys.take(states[:, :, None]) for states in (key, value))
            kept += [q, k, v] if learning else []
            rows = []
            for stretch in block.stretches:
                asked, seen, read = _parts(stretch, block, q, k, v)
                shares, drop = _shares(asked, seen, stretch, bias, heads), None
                if dropout:
                    drop = torch.empty_like(shares).bernoulli_(1 - dropout).div_(1 - dropout)
                rows.append(torch.bmm(shares if drop is None else shares * drop, read))
                kept += [shares if block.kept or dropout else None, drop] if learning else []
            block.queries.give(_joined(rows), mixed.unflatten(1, (heads, -1)))
        ctx.save_for_backward(*kept)
        ctx.settings = blocks, scale, query.shape, key.shape
        return mixed

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        bias, *rest = ctx.saved_tensors
        blocks, scale, of_query, of_key = ctx.settings
        kept, heads, given = iter(rest), of_key[1], gradients[0]
        d_query = given.new_empty(of_query)
        whole = sum(block.keys.rows.stop - block.keys.rows.start for block in blocks) == of_key[0]
        d_key, d_value = (given.new_empty(of_key) if whole else given.new_zeros(of_key) for _ in range(2))
        d_bias = None
        if bias is not None and ctx.needs_input_grad[3]:
            d_bias = torch.zeros_like(bias, dtype=torch.promote_types(bias.dtype, torch.float32))
        for block in blocks:
            q, k, v = next(kept), next(kept), next(kept)
            g = block.queries.take(given.unflatten(1, (heads, -1)))
            d_q, d_k, d_v = _block_gradients(block, kept, (q, k, v, g), bias, d_bias, heads)
            block.queries.give(d_q, d_query.unflatten(1, (heads, -1)), scale)
            block.keys.give(d_k, d_key[:, :, None])
            block.keys.give(d_v, d_value[:, :, None])
        return d_query, d_key, d_value, d_bias, None, None, None


def _block_gradients(
    block: Block,
    kept: Iterator[Tensor],
    grids: tuple[Tensor, ...],
    bias: Tensor | None,
    d_bias: Tensor | None,
    heads: int,
) -> tuple[Tensor, ...]:
    """Those of a block's scaled queries, keys and values; that of the bias is added to `d_bias`."""
    q, k, v, g = grids
    rows: list[Tensor] = []
    d_k = d_v = None
    for stretch in block.stretches:
        shares, drop = next(kept), next(kept)
        asked, seen, read = _parts(stretch, block, q, k, v)
        given = _queries(stretch, block, g)
        if shares is None:
            shares = _shares(asked, seen, stretch, bias, heads)
        d_shares = torch.bmm(given, read.transpose(1, 2))
        if drop is not None:
            d_shares.mul_(drop)
        d_read = torch.bmm((shares if drop is None else shares * drop).transpose(1, 2), given)
        d_scores = torch.ops.aten._softmax_backward_data(d_shares, shares, -1, shares.dtype)
        if d_bias is not None:
            _add_bias(d_bias, d_scores, stretch, heads)
        rows.append(torch.bmm(d_scores, seen))
        d_seen = torch.bmm(d_scores.transpose(1, 2), asked)
        d_k, d_v = _added(d_k, d_seen, stretch, k), _added(d_v, d_read, stretch, v)
    assert d_k is not None
    assert d_v is not None
    return _joined(rows), d_k, d_v


def _parts(stretch: Stretch, block: Block, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The queries, keys and values of a stretch, each contiguous."""
    return _queries(stretch, block, q), k[:, stretch.keys].contiguous(), v[:, stretch.keys].contiguous()


def _queries(stretch: Stretch, block: Block, grid: Tensor) -> Tensor:
    """The stretch of a grid (K n, b G, D) of queries."""
    each = grid.shape[1] // block.queries.length
    return grid[:, stretch.queries.start * each : stretch.queries.stop * each].contiguous()


def _joined(rows: list[Tensor]) -> Tensor:
    return rows[0] if len(rows) == 1 else torch.cat(rows, 1)


def _added(total: Tensor | None, part: Tensor, stretch: Stretch, like: Tensor) -> Tensor:
    """A gradient of keys or values with that of one more stretch."""
    if part.shape == like.shape and total is None:
        return part
    total = torch.zeros_like(like) if total is None else total
    total[:, stretch.keys] += part
    return total


def _shares(q: Tensor, k: Tensor, stretch: Stretch, bias: Tensor | None, heads: int) -> Tensor:
    """The probabilities (K n, b G, e) of queries that are scaled already."""
    scores = torch.bmm(q, k.transpose(1, 2))
    apart = _by_query(scores, stretch, heads)
    if bias is not None:
        apart.add_(_of_stretch(bias, stretch, heads))
    if stretch.hidden is not None:
        apart[..., stretch.first :].add_(stretch.hidden[:, :, None].to(scores.dtype))
    return torch.softmax(scores, -1)


def _by_query(scores: Tensor, stretch: Stretch, heads: int) -> Tensor:
    """(K n, b G, e) -> (K, n, b, G, e)."""
    b, e = stretch.queries.stop - stretch.queries.start, scores.shape[-1]
    return scores.view(heads, -1, b, scores.shape[1] // b, e)


def _of_stretch(bias: Tensor, stretch: Stretch, heads: int) -> Tensor:
    """The part (K, 1, b or 1, G, e) of a bias that a stretch needs."""
    part = bias[:, slice(0, 1) if bias.shape[1] == 1 else stretch.queries, stretch.keys]
    return part.view(heads, -1, *part.shape[1:]).transpose(1, 2)[:, None]


def _add_bias(total: Tensor, d_scores: Tensor, stretch: Stretch, heads: int) -> None:
    """Add the gradient of a stretch's scores to that of the bias."""
    part = _of_stretch(total, stretch, heads)
    part.add_(_by_query(d_scores, stretch, heads).sum(1, dtype=total.dtype, keepdim=True).sum_to_size(part.shape))
