"""The key-value cache: room laid out ahead, so that a step writes one column and copies nothing.

All rows of a batch end at the same column; each begins where its own tokens begin. A step appends one column to all
of them. A row that leaves gives its place to the last one; rows that join are laid so that they end where the others
end. Shapes: B rows, H heads, T columns, D width of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache, CacheLayerMixin, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

SLACK = 64  # columns made at once, at least, when the room is used up


@dataclass
class Frame:
    """Where the rows lie: `rows` of `height`, the columns `first` to `end` of `width`; `starts`: each row's first.

    `dtype` is what keys and values are kept in; None: what they come in.
    """

    height: int
    width: int
    rows: int
    dtype: torch.dtype | None = None
    end: int = 0
    first: int = 0
    starts: list[int] = field(default_factory=list)


class _Layer(CacheLayerMixin):
    """Keys and values of one layer within the common frame, as transformers' attention asks for them."""

    is_sliding = False  # a layer that looks through a window gets its mask; what lies outside it is kept

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self.states: tuple[Tensor, ...] = ()

    @property
    def is_initialized(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return bool(self.states)

    @property
    def keys(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What the cross-attention of an encoder-decoder reads (B, H, T, D)."""
        return self._live(0, self.frame.end)

    @property
    def values(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._live(1, self.frame.end)

    def _live(self, which: int, end: int) -> Tensor:
        return self.states[which][: self.frame.rows, :, self.frame.first : end]

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        # zeros: a masked column counts nothing times what stands there, which must be a number
        height, width = self.frame.height, self.frame.width
        dtype = self.frame.dtype or key_states.dtype
        self.states = tuple(
            s.new_zeros(height, s.shape[1], width, s.shape[3], dtype=dtype) for s in (key_states, value_states)
        )

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the new columns (B, H, t, D) behind the others; all of them (B, H, T + t, D)."""
        if not self.states:
            self.lazy_initialization(key_states, value_states)
        frame = self.frame
        end = frame.end + key_states.shape[2]
        for kept, new in zip(self.states, (key_states, value_states), strict=True):
            kept[: frame.rows, :, frame.end : end] = new
        if frame.end == frame.first:
            return key_states, value_states
        return self._live(0, end), self._live(1, end)

    def get_seq_length(self) -> int:
        return self.frame.end - self.frame.first

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return self.get_seq_length() + query_length, 0

    def get_max_length(self) -> int:
        return -1


class Columns(Cache):
    """The keys and values of a batch in all layers, and the mask of what is real."""

    def __init__(self, rows: int, width: int, device: torch.device, dtype: torch.dtype | None = None) -> None:
        self.frame = Frame(rows, width, rows, dtype)
        super().__init__(layer_class_to_replicate=partial(_Layer, self.frame))  # pyright: ignore[reportArgumentType]
        self._mask = torch.zeros(rows, width, dtype=torch.long, device=device)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return self.frame.rows

    @property
    def mask(self) -> Tensor:
        """1 where a column is real (B, T)."""
        return self._mask[: self.frame.rows, self.frame.first : self.frame.end]

    @property
    def padded(self) -> bool:
        """Whether some row is shorter than the others."""
        return max(self.frame.starts) > self.frame.first

    def lengths(self) -> list[int]:
        """Columns of each row, from its first to the end."""
        return [self.frame.end - start for start in self.frame.starts]

    def begin(self, mask: Tensor, starts: Sequence[int]) -> None:
        """Count the first columns (B, T), which a forward pass has written."""
        self._mask[: self.frame.rows, : mask.shape[1]] = mask
        self.frame.starts = list(starts)
        self.frame.first, self.frame.end = min(starts), mask.shape[1]

    def prepare(self) -> Tensor:
        """Make room for one more column, real in every row, which the next forward pass writes; the mask with it."""
        frame = self.frame
        if frame.end == frame.width:
            span = frame.end - frame.first
            self._lay(frame.height, span, span + max(SLACK, span // 2))
        self._mask[: frame.rows, frame.end] = 1
        return self._mask[: frame.rows, frame.first : frame.end + 1]

    def advance(self) -> None:
        """Count the column that a forward pass has written."""
        self.frame.end += 1

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows, in this order."""
        frame = self.frame
        moved = [(place, row) for place, row in enumerate(rows) if place != row]
        if moved:
            places, sources = (torch.tensor(side, device=self._mask.device) for side in zip(*moved, strict=True))
            for state in self._states():
                live = state[:, :, frame.first : frame.end]
                live[places] = live[sources]
            self._mask[places] = self._mask[sources]
        frame.rows = len(rows)
        frame.starts = [frame.starts[row] for row in rows]
        frame.first = min(frame.starts, default=frame.end)

    def absorb(self, other: Columns) -> None:
        """Take in the rows of another batch, behind the own ones."""
        mine, theirs = self.frame, other.frame
        before, rows, span = mine.rows, mine.rows + theirs.rows, theirs.end - theirs.first
        if rows > mine.height or span > mine.end:
            own = mine.end - mine.first
            longest = max(own, span)
            height = max(rows, 2 * mine.height) if rows > mine.height else mine.height
            self._lay(height, longest, longest + max(SLACK, longest // 2))
        for state, new in zip(self._states(), other._states(), strict=True):
            state[before:rows, :, mine.end - span : mine.end] = new[: theirs.rows, :, theirs.first : theirs.end]
        self._mask[before:rows] = 0
        self._mask[before:rows, mine.end - span : mine.end] = other.mask
        mine.rows = rows
        mine.starts += [start - theirs.end + mine.end for start in theirs.starts]
        mine.first = min(mine.starts)

    def _states(self) -> list[Tensor]:
        return [state for layer in self.layers if isinstance(layer, _Layer) for state in layer.states]

    def _lay(self, height: int, end: int, width: int) -> None:
        """Lay the live columns anew, ending at `end`, in tables of this height and width."""
        frame = self.frame
        old, new = slice(frame.first, frame.end), slice(end - (frame.end - frame.first), end)
        for layer in self.layers:
            assert isinstance(layer, _Layer)
            laid = []
            for state in layer.states:
                table = state.new_zeros(height, state.shape[1], width, state.shape[3])
                table[: frame.rows, :, new] = state[: frame.rows, :, old]
                laid.append(table)
            layer.states = tuple(laid)
        mask = self._mask.new_zeros(height, width)
        mask[: frame.rows, new] = self._mask[: frame.rows, old]
        self._mask = mask
        shift = end - frame.end
        frame.height, frame.width, frame.end = height, width, end
        frame.first += shift
        frame.starts = [start + shift for start in frame.starts]


def keeps_columns(config: Any) -> bool:
    """Whether all layers remember a key and a value for every token, and nothing of another kind."""
    kinds = {type(layer) for layer in DynamicCache(config=config).layers}
    return kinds <= {DynamicLayer, DynamicSlidingWindowLayer}
