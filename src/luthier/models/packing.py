"""Attention without padding: the sequences of a batch lie end to end in one row, and none sees another.

Everything but attention works on single tokens and needs no change. For attention, `packed(lengths)` holds the
boundaries while forward and backward run; the function registered here takes queries, keys and values apart into one
row per sequence, attends causally there, and lays the result end to end again. The padding that this makes lies to
the right of every sequence, where no causal query looks. Outside the context the function is transformers' own
scaled-dot-product attention, so that generation and padded batches work under the same name.

Whether a family really attends through the function is not looked up but tested, at load (`self_test`): some
families have attention code of their own, which would silently mix the sequences.

Shapes: B sequences of at most L tokens, T tokens in all, H heads (K of them for keys and values), D width of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask
from transformers.utils import logging

NAME = "luthier_packed"
_sdpa: Any = sdpa_attention_forward  # its decorators hide its signature from type checkers
TOLERANCE = 1e-5  # relative difference of a loss in fp32
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
_windows_seen: list[int | None] | None = None  # while a self-test watches: the window of every call


@contextmanager
def packed(lengths: Tensor) -> Iterator[None]:
    """Forward and backward of a packed row of sequences of these lengths (B,) run inside this context."""
    global _current
    before, _current = _current, Boundaries.of(lengths)
    try:
        yield
    finally:
        _current = before


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

    Outside `packed`, whatever shapes and mask `sdpa` takes.
    """
    if _current is None:
        return _sdpa(module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **others)
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


def adopt(model: PreTrainedModel) -> bool:
    """Let a model attend without padding if it passes the self-test; returns whether it does."""
    fit = self_test(model)
    if fit:
        model.set_attn_implementation(NAME)
    return fit


def self_test(model: PreTrainedModel) -> bool:
    """Whether two short sequences give the same losses packed as one by one, every layer attending through us.

    The model must be in evaluation mode and fp32; its attention is left as it was.
    """
    before = model.config._attn_implementation
    if before != "sdpa" or model.config.is_encoder_decoder:
        return False
    rows = model.get_input_embeddings().weight.size(0)  # pyright: ignore[reportCallIssue]
    generator = torch.Generator().manual_seed(0)
    sequences = [torch.randint(rows, (n,), generator=generator).to(model.device) for n in (7, 12)]
    with torch.no_grad():
        apart = torch.stack([_loss(model(ids[None], use_cache=False).logits[0], ids) for ids in sequences])
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # a family that cannot change its attention says so: here that is an answer
    try:
        model.set_attn_implementation(NAME)
        with torch.no_grad():
            together = _packed_losses(model, sequences)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):  # NotImplementedError among them
        return False
    finally:
        model.set_attn_implementation(before)
        logging.set_verbosity(verbosity)
    return together is not None and torch.allclose(together, apart, rtol=TOLERANCE, atol=0)


def _packed_losses(model: PreTrainedModel, sequences: list[Tensor]) -> Tensor | None:
    """The losses of sequences packed into one row; None where some layer attended in another way."""
    global _windows_seen
    lengths = torch.tensor([len(ids) for ids in sequences], device=model.device)
    positions = torch.cat([torch.arange(len(ids), device=model.device) for ids in sequences])
    _windows_seen = []
    try:
        with packed(lengths):
            logits = model(torch.cat(sequences)[None], position_ids=positions[None], use_cache=False).logits[0]
        seen = _windows_seen
    finally:
        _windows_seen = None
    if not _as_configured(seen, model.config):
        return None
    parts = logits.split(lengths.tolist())
    return torch.stack([_loss(part, ids) for part, ids in zip(parts, sequences, strict=True)])


def _as_configured(windows: list[int | None], config: Any) -> bool:
    """Whether every layer called, and each that looks through a window gave it: two short rows cannot tell."""
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return len(windows) == config.num_hidden_layers
    narrow = sum(window is not None for window in windows)
    return (
        set(kinds) <= {"full_attention", "sliding_attention"}
        and len(windows) == len(kinds)
        and narrow >= kinds.count("sliding_attention")
    )


def _loss(logits: Tensor, ids: Tensor) -> Tensor:
    return cross_entropy(logits[:-1].float(), ids[1:])
