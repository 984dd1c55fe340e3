"""Attention without padding: the sequences of a batch lie end to end in one row, and none sees another.

Everything but attention works on single tokens and needs no change. For attention, `packed(lengths)` holds the
boundaries while forward and backward run; the function registered here takes queries, keys and values apart into one
row per sequence, attends causally there, and lays the result end to end again. The padding that this makes lies to
the right of every sequence, where no causal query looks. Outside the context the function is transformers' own
scaled-dot-product attention, so that generation and padded batches work under the same name.

Whether a model really attends through the function is for `packing.self_test` to find out.

Shapes: B sequences of at most L tokens, T tokens in all, H heads (K of them for keys and values), D width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

NAME = "luthier_packed"
_sdpa: Any = sdpa_attention_forward  # its decorators hide its signature from type checkers
CHANGES = ("softcap", "s_aux", "position_bias", "head_mask")  # what else may change attention, and is not done here


@dataclass(frozen=True)
class Boundaries:
    """Where each sequence lies: `slots` (T,) in the padded (B L) grid, `tokens` (B L,) of each slot in the row."""

    count: int
    longest: int
    slots: Tensor
    tokens: Tensor

    @classmethod
    def of(cls, lengths: Tensor) -> Boundaries:
        """The boundaries of sequences of these lengths (B,); a slot of padding shows some token, never looked at."""
        longest = int(lengths.max())
        grid = torch.arange(longest, device=lengths.device) < lengths[:, None]
        starts = lengths.cumsum(0) - lengths
        tokens = starts[:, None] + torch.arange(longest, device=lengths.device)
        tokens = tokens.clamp(max=int(lengths.sum()) - 1).flatten()
        return cls(len(lengths), longest, grid.flatten().nonzero().flatten(), tokens)


class _Apart(torch.autograd.Function):
    """Rows (T, ...) to the padded grid (B L, ...); backward picks the real slots, which hold the whole gradient."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, slots: Tensor, tokens: Tensor) -> Tensor:
        ctx.save_for_backward(slots)
        return rows.index_select(0, tokens)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slots,) = ctx.saved_tensors
        return gradients[0].index_select(0, slots), None, None


# The boundaries of the batch at work. A module variable, not a context variable: backward may run in threads of
# autograd's own, which inherit no context.
_current: Boundaries | None = None
_windows_seen: list[int | None] | None = None  # the window of every call, while somebody watches


@contextmanager
def packed(lengths: Tensor) -> Iterator[None]:
    """Forward and backward of a packed row of sequences of these lengths (B,) run inside this context."""
    global _current
    before, _current = _current, Boundaries.of(lengths)
    try:
        yield
    finally:
        _current = before


@contextmanager
def watched() -> Iterator[list[int | None]]:
    """Collects the window (None: all before) of every packed call of the attention within the block."""
    global _windows_seen
    _windows_seen = []
    try:
        yield _windows_seen
    finally:
        _windows_seen = None


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: query (1, H, T, D), key and value (1, K, T, D) -> (1, T, H, D).

    Outside `packed`, whatever shapes and mask `sdpa` takes; keys and values may be kept wider than the query is, and
    attention is then as exact as they are.
    """
    if _current is None:
        options = {"dropout": dropout, "scaling": scaling, **others}
        mixed, _ = _sdpa(module, query.to(key.dtype), key, value, attention_mask, **options)
        return mixed.to(query.dtype), None
    causal = others.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    unknown = [name for name in CHANGES if others.get(name) is not None]
    if unknown or not causal or query.shape[2] != key.shape[2]:
        raise NotImplementedError(f"no packed attention for {unknown or 'attention that is not causal'}")
    if _windows_seen is not None:
        _windows_seen.append(sliding_window)
    query, key, value = (_take_apart(states, _current) for states in (query, key, value))
    mixed = _attend(query, key, value, scaling, dropout, sliding_window)
    rows = mixed.transpose(1, 2).reshape(-1, *mixed.shape[1::2])
    return rows.index_select(0, _current.slots)[None], None


def _take_apart(states: Tensor, at: Boundaries) -> Tensor:
    """(1, H, T, D) -> (B, H, L, D), zero-cost where there is one sequence only."""
    rows = states[0].transpose(0, 1)
    grid = rows if at.count == 1 else _Apart.apply(rows, at.slots, at.tokens)
    return grid.reshape(at.count, at.longest, *grid.shape[1:]).transpose(1, 2)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, dropout: float, window: int | None
) -> Tensor:
    """Causal attention (B, H, L, D); `window`: a query sees itself and the window - 1 tokens before it."""
    length = query.shape[2]
    mask = None
    if window is not None and window < length:
        ones = torch.ones(length, length, dtype=torch.bool, device=query.device)
        mask = ones.tril() & ones.triu(1 - window)
    return scaled_dot_product_attention(
        query,
        key,
        value,
        attn_mask=mask,
        is_causal=mask is None,
        dropout_p=dropout,
        scale=scaling,
        enable_gqa=query.shape[1] != key.shape[1],
    )


def mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """The mask that models prepare for `attention`: none for packed rows, that of `sdpa` otherwise."""
    return sdpa_mask(*args, **kwargs) if _current is None else None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, mask)
