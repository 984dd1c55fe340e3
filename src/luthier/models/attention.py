"""Attention without padding: the sequences of a batch lie end to end in one row, and none sees another.

Everything but attention works on single tokens and needs no change. `packed(...)` holds the boundaries while forward
and backward run; the function registered here with transformers' attention interface then attends within them, by
the variable-length flash kernel on a GPU that has it and block by block (`attend`) elsewhere. Outside the context the
function is transformers' own scaled-dot-product attention, so that generation and padded batches work under the same
name. Families with attention code of their own have it replaced while packed: `bloom.py`, `t5.py`.

Whether a model really attends through the function is for `packing.self_test` to find out.

Shapes: T tokens in all, H heads (K of them for keys and values), D width of a head, N labelled positions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property
from inspect import signature
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import eager_mask, sdpa_mask

from luthier.models.attend import attend
from luthier.models.blocks import Block, cut

NAME = "luthier_packed"
OWN = "luthier_packed_own"  # for families whose own attention needs a written mask when rows are not packed
_sdpa: Any = sdpa_attention_forward  # its decorators hide its signature from type checkers
CHANGES = ("softcap", "s_aux", "position_bias", "head_mask")  # what else may change attention, and is not done here

F = TypeVar("F", bound=Callable[..., Any])
Kind = Literal["causal", "labelled", "encoder", "decoder", "cross"]


class Boundaries:
    """Where each sequence of a packed row begins, and the blocks in which each kind of attention is computed.

    `lengths` of the sequences; of an encoder-decoder, those of the encoder's, and `answers` the decoder's. `where`
    (N,) are the labelled positions of the row: queries of the kind `labelled` stand there only. `taken` is set by a
    last layer that has computed these alone.
    """

    def __init__(
        self,
        lengths: Sequence[int],
        answers: Sequence[int] = (),
        where: Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.lengths, self.answers, self.where, self.device = tuple(lengths), tuple(answers), where, device
        self.taken = False
        self._blocks: dict[tuple[Kind, int | None], tuple[Block, ...]] = {}

    def longest(self, kind: Kind) -> int:
        """Tokens of the longest sequence that attends in this way to itself."""
        return max(self.answers if kind == "decoder" else self.lengths)

    def blocks(self, kind: Kind, window: int | None = None) -> tuple[Block, ...]:
        """The blocks of one kind of attention, made once for all layers."""
        if (kind, window) not in self._blocks:
            causal = kind in ("causal", "labelled", "decoder")
            keys = self.answers if kind == "decoder" else self.lengths
            self._blocks[kind, window] = cut(self._places(kind), keys, causal, window, self.device)
        return self._blocks[kind, window]

    def _places(self, kind: Kind) -> list[np.ndarray]:
        if kind != "labelled":
            return [np.arange(n) for n in (self.answers if kind in ("decoder", "cross") else self.lengths)]
        assert self.where is not None
        ends = np.cumsum(self.lengths)
        where = self.where.cpu().numpy()
        parts = np.split(where, np.searchsorted(where, ends[:-1]))
        return [part - (end - n) for part, end, n in zip(parts, ends, self.lengths, strict=True)]

    @cached_property
    def offsets(self) -> Tensor:
        """Where each sequence begins, and the end (sequences + 1,), as the flash kernel takes it."""
        return torch.tensor(np.cumsum([0, *self.lengths]), dtype=torch.int32, device=self.device)


# The boundaries of the batch at work. A module variable, not a context variable: backward may run in threads of
# autograd's own, which inherit no context.
_current: Boundaries | None = None
_windows_seen: list[int | None] | None = None  # the window of every call, while somebody watches


@contextmanager
def packed(boundaries: Boundaries) -> Iterator[None]:
    """Forward and backward of a packed row run inside this context."""
    global _current
    before, _current = _current, boundaries
    try:
        yield
    finally:
        _current = before


def current() -> Boundaries | None:
    """The boundaries of the row at work, None outside `packed`."""
    return _current


def _never_compiled(function: F) -> F:
    """Left out of compiled layers: boundaries change with every row, and these would be compiled anew for each."""
    return torch.compiler.disable(function)  # pyright: ignore[reportReturnType]


@contextmanager
def watched() -> Iterator[list[int | None]]:
    """Collects the window (None: all before) of every packed call of the attention within the block."""
    global _windows_seen
    _windows_seen = []
    try:
        yield _windows_seen
    finally:
        _windows_seen = None


@_never_compiled
def mix(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    kind: Kind,
    scale: float,
    window: int | None = None,
    bias: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attention within the current boundaries: query (T, H, D), key and value (T', K, D) -> (T, H, D).

    `window`: a query sees itself and the window - 1 tokens before it. `bias` (H, L or 1, L') is added to the scores.
    """
    assert _current is not None
    if _windows_seen is not None:
        _windows_seen.append(window)
    if kind == "causal" and bias is None and not dropout and _flash_fits(query):
        flash = _flash()
        if flash is not None:
            at, longest = _current.offsets, _current.longest(kind)
            reach = (-1 if window is None else window - 1, 0)
            gqa = query.shape[1] != key.shape[1]
            return flash(query, key, value, at, at, longest, longest, scale=scale, window_size=reach, enable_gqa=gqa)
    blocks = _current.blocks(kind, window)
    with torch.autocast(query.device.type, enabled=False):  # whose softmax would be wider than the products
        return attend(query, key, value, blocks, scale, bias, dropout)


def _flash_fits(query: Tensor) -> bool:
    """Whether a GPU's flash kernel takes queries of this type and width."""
    if not query.is_cuda or query.dtype == torch.float32 or torch.version.hip:
        return False
    width = query.shape[-1]
    return torch.cuda.get_device_capability(query.device) >= (8, 0) and width % 8 == 0 and width <= 256


@cache
def _flash() -> Any:
    """torch's variable-length flash attention, where this torch has it with all that is asked of it."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return None
    known = signature(varlen_attn).parameters
    return varlen_attn if {"scale", "window_size", "enable_gqa"} <= set(known) else None


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
    # rotary positions in fp32 widen what autocast has narrowed
    dtype = torch.get_autocast_dtype("cuda") if query.is_cuda and torch.is_autocast_enabled("cuda") else query.dtype
    rows = (states[0].transpose(0, 1).to(dtype) for states in (query, key, value))
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return mix(*rows, kind="causal", scale=scale, window=sliding_window, dropout=dropout)[None], None


def mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """The mask that models prepare for `attention`: none for packed rows, that of `sdpa` otherwise."""
    return sdpa_mask(*args, **kwargs) if _current is None else None


def own_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """The mask for families that attend by code of their own: none for packed rows, a written one otherwise."""
    return eager_mask(*args, **kwargs) if _current is None else None


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, mask)
AttentionMaskInterface.register(OWN, own_mask)
