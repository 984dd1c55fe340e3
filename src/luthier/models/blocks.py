"""How packed sequences are cut into the blocks that attention computes one after another.

A block is some sequences of like length side by side, or a stretch of the queries of one long sequence. Short
sequences share a block because each block costs a dozen kernel calls; those of unlike length do not, because the
padding between them would cost more. Long ones are cut, so that their scores never stand in memory whole and the
keys behind a stretch's last query are not looked at. Lengths are rounded up: a processor's kernels are made anew for
each shape that they meet, and kept.

Shapes: n sequences of a block, b queries and e keys of each, padding included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CALLS = 6_000  # scores of one head that are computed in about the time that one more block's calls take
WHOLE = 640  # a sequence of at most so many queries is one block
STRETCH = 256  # queries in a block of a longer one
ROUND = 16  # lengths within a block are multiples of it


@dataclass(frozen=True)
class Side:
    """The rows of the packed tensor that a block takes: a slice, padded by `slots` (n l,) where lengths differ.

    `real` (rows of the slice,) are then the slots that hold a row, in its order.
    """

    rows: slice
    length: int
    slots: Tensor | None = None
    real: Tensor | None = None

    def take(self, packed: Tensor) -> Tensor:
        """(K, T, ...) -> (K, n l, ...), a contiguous copy: products of slices take half as long again."""
        part = packed[:, self.rows]
        if self.slots is None:
            return part.clone(memory_format=torch.contiguous_format)
        return part.index_select(1, self.slots)

    def take_real(self, packed: Tensor) -> Tensor:
        """The same with zeros in slots of padding, so that they add nothing to a gradient."""
        if self.real is None or self.slots is None:
            return self.take(packed)
        part = packed[:, self.rows]
        padded = packed.new_zeros(len(part), len(self.slots), *part.shape[2:])
        return padded.index_copy_(1, self.real, part)

    def give(self, padded: Tensor) -> Tensor:
        """(K, n l, ...) -> (K, rows of the slice, ...): the real ones, as they lie there."""
        return padded if self.real is None else padded.index_select(1, self.real)


@dataclass(frozen=True)
class Block:
    """`hidden` (n or 1, b, e - first), in fp32: 0 where a query sees a key, -inf where not; all see those before
    `first`. `start` is the place of the first query; `whole`: no other block has queries of the same sequences."""

    count: int
    queries: Side
    keys: Side
    first: int
    hidden: Tensor | None
    start: int = 0
    whole: bool = True


def cut(
    places: Sequence[np.ndarray],
    lengths: Sequence[int],
    causal: bool,
    window: int | None = None,
    device: torch.device | str = "cpu",
) -> tuple[Block, ...]:
    """The blocks of sequences of `lengths` keys, whose queries stand at `places` (rising) among them.

    Causal: a query sees the keys up to its own place, and with a `window` only so many of them.
    """
    counts = [len(own) for own in places]
    q = np.concatenate([[0], np.cumsum(counts)]).tolist()
    k = np.concatenate([[0], np.cumsum(lengths)]).tolist()
    blocks: list[Block] = []
    for first, last in _groups(counts, lengths):
        own, keys = places[first:last], list(lengths[first:last])
        if last - first > 1 or counts[first] <= WHOLE:
            queries = _side(q[first], counts[first:last], device)
            side = _side(k[first], keys, device)
            hide = _hidden(own, keys, (queries.length, side.length), causal, window, device)
            blocks.append(Block(last - first, queries, side, *hide))
            continue
        for at in range(0, counts[first], STRETCH):
            part = own[0][at : at + STRETCH]
            seen = [int(part[-1]) + 1] if causal else keys
            queries, side = _side(q[first] + at, [len(part)], device), _side(k[first], seen, device)
            hide = _hidden([part], seen, (queries.length, side.length), causal, window, device)
            blocks.append(Block(1, queries, side, *hide, start=at, whole=False))
    return tuple(block for block in blocks if block.queries.length)


def _groups(counts: Sequence[int], lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbours (first, last) that share a block, as long as their padding costs less than more blocks would."""
    groups: list[tuple[int, int]] = []
    b = e = needed = 0
    for place, (count, length) in enumerate(zip(counts, lengths, strict=True)):
        b, e, needed = max(b, _rounded(count)), max(e, _rounded(length)), needed + _rounded(count) * _rounded(length)
        sharing = place - groups[-1][0] if groups else 0
        if sharing and b * e * (sharing + 1) - needed <= CALLS * sharing and b * e <= WHOLE * WHOLE:
            groups[-1] = (groups[-1][0], place + 1)
        else:
            groups.append((place, place + 1))
            b, e, needed = _rounded(count), _rounded(length), _rounded(count) * _rounded(length)
    return groups


def _side(start: int, lengths: Sequence[int], device: torch.device | str) -> Side:
    longest, rows = _rounded(max(lengths)), slice(start, start + sum(lengths))
    if min(lengths) == longest:
        return Side(rows, longest)
    begin = np.cumsum([0, *lengths[:-1]])[:, None]
    within = np.arange(longest)[None]
    real = within < np.asarray(lengths)[:, None]
    slots = np.where(real, begin + within, 0).ravel()  # a slot of padding shows some row, and is never looked at
    return Side(rows, longest, _indices(slots, device), _indices(np.flatnonzero(real), device))


def _rounded(length: int) -> int:
    return -(-length // ROUND) * ROUND


def _hidden(
    places: Sequence[np.ndarray],
    lengths: Sequence[int],
    shape: tuple[int, int],
    causal: bool,
    window: int | None,
    device: torch.device | str,
) -> tuple[int, Tensor | None]:
    """Which keys each query must not see, from the first column where there is any."""
    longest, keys = shape[0], np.arange(shape[1])
    last = [own[-1] if len(own) else 0 for own in places]  # a slot of padding sees what the last query does
    at = np.stack([np.append(own, np.full(longest - len(own), end)) for own, end in zip(places, last, strict=True)])
    at = at[..., None]
    hidden = keys >= np.asarray(lengths)[:, None, None]
    if causal:
        hidden = hidden | (keys > at)
        if window is not None:
            hidden = hidden | (keys <= at - window)
    hidden = np.broadcast_to(hidden, (len(places), longest, len(keys)))
    if not hidden.any():
        return 0, None
    if (hidden == hidden[:1]).all():
        hidden = hidden[:1]
    first = int(hidden.any(axis=(0, 1)).argmax())
    mask = np.where(hidden[..., first:], -np.inf, 0).astype(np.float32)
    return first, torch.from_numpy(mask).to(device)


def _indices(values: np.ndarray, device: torch.device | str) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64)).to(device)
