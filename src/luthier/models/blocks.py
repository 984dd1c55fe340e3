"""How packed sequences are cut into the blocks that attention computes one after another.

A block is some sequences of like length side by side, or one alone. Short sequences share a block because each block
costs a dozen kernel calls; those of unlike length do not, because the padding between them would cost more. The
queries of one alone are cut into stretches, so that scores of keys behind a stretch's last query are not computed and
those of a long sequence never stand in memory whole. Lengths are rounded up: a processor's kernels are made anew for
each shape that they meet, and kept.

Shapes: n sequences of a block, b queries and e keys of each, padding included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

CALLS = 3_000  # scores of one head that are computed in about the time that one more block's calls take
WHOLE = 640  # the probabilities of so many queries and keys are kept for the backward pass, of more computed again
STRETCH = 192  # queries of one sequence whose scores are computed at once
ROUND = 16  # lengths within a block are multiples of it


@dataclass(frozen=True)
class Side:
    """The rows of the packed tensor that a block takes, as n sequences of `length` slots each.

    Rows beyond the end of a sequence are padding, and 0. `real` (rows,) are the slots that hold a row, in its order;
    without them these are the first ones.
    """

    rows: slice
    count: int
    length: int
    real: Tensor | None = None

    def take(self, packed: Tensor, scale: float = 1.0) -> Tensor:
        """(T, K, G, D) -> (K n, l G, D) times `scale`, contiguous: products of slices take half as long again."""
        part, slots = packed[self.rows], self.count * self.length
        rows, heads, *inner = part.shape
        if self.real is not None:
            part, rows = part.new_zeros(slots, heads, *inner).index_copy_(0, self.real, part), slots
        grid = part.new_empty(heads, slots, *inner)
        grid[:, rows:].zero_()
        _write(part.transpose(0, 1), grid[:, :rows], scale)
        return grid.view(heads * self.count, -1, inner[-1])

    def give(self, grid: Tensor, packed: Tensor, scale: float = 1.0) -> None:
        """Write a grid (K n, l G, D) times `scale` where its rows lie in `packed` (T, K, G, D)."""
        target = packed[self.rows]
        rows = grid.view(target.shape[1], -1, *target.shape[2:]).transpose(0, 1)
        if self.real is not None:
            rows = rows.contiguous().index_select(0, self.real)
        _write(rows[: len(target)], target, scale)


def _write(source: Tensor, target: Tensor, scale: float) -> None:
    if scale == 1:  # a copy is half as long as a product
        target.copy_(source)
    else:
        torch.mul(source, scale, out=target)


@dataclass(frozen=True)
class Stretch:
    """Some queries of each sequence of a block, and the keys that they look at.

    `hidden` (n or 1, b, e - first), in fp32: 0 where a query sees a key, -inf where not; all see those before
    `first`, which counts from the first key of the stretch.
    """

    queries: slice
    keys: slice
    first: int
    hidden: Tensor | None


@dataclass(frozen=True)
class Block:
    """`stretches` are all of its queries, one after another; `kept`: their probabilities are kept for backward."""

    queries: Side
    keys: Side
    stretches: tuple[Stretch, ...]
    kept: bool


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
    for first, last in _groups(places, lengths, causal):
        own, of_own = places[first:last], lengths[first:last]
        queries = _side(q[first], counts[first:last], device)
        keys = _side(k[first], of_own, device)
        if not queries.length:
            continue
        spans = _spans(own, of_own, causal, window)
        hide = [_hidden(own, of_own, span, causal, window, device) for span in spans]
        kept = sum(map(_size, spans)) <= WHOLE * WHOLE
        blocks.append(Block(queries, keys, tuple(Stretch(*s, *h) for s, h in zip(spans, hide, strict=True)), kept))
    return tuple(blocks)


def scores_kept(counts: Sequence[int], lengths: Sequence[int], causal: bool, window: int | None = None) -> int:
    """How many probabilities of a head are kept for backward, of `counts` queries and `lengths` keys, each alone."""
    sizes = (
        sum(map(_size, _spans([np.arange(count)], [length], causal, window)))
        for count, length in zip(counts, lengths, strict=True)
    )
    return sum(size for size in sizes if size <= WHOLE * WHOLE)


Span = tuple[slice, slice]


def _groups(places: Sequence[np.ndarray], lengths: Sequence[int], causal: bool) -> list[tuple[int, int]]:
    """Neighbours (first, last) that share a block, as long as their padding costs less than more blocks would."""
    groups: list[tuple[int, int]] = []
    b = e = needed = 0
    for place, (own, length) in enumerate(zip(places, lengths, strict=True)):
        alone = sum(_size(span) + CALLS for span in _spans([own], [length], causal, None))
        wide, long = max(b, rounded(len(own))), max(e, rounded(length))
        shared = (place - groups[-1][0] + 1) * wide * long + CALLS if groups else 0
        if groups and shared <= needed + alone and wide * long <= WHOLE * WHOLE:
            groups[-1] = (groups[-1][0], place + 1)
            b, e, needed = wide, long, shared
        else:
            groups.append((place, place + 1))
            b, e, needed = rounded(len(own)), rounded(length), alone
    return groups


def _spans(places: Sequence[np.ndarray], lengths: Sequence[int], causal: bool, window: int | None) -> list[Span]:
    """The stretches of a block: slots of queries, and of the keys that they look at."""
    b, e = rounded(max(map(len, places))), rounded(max(lengths))
    if len(places) > 1 or not (causal or b * e > WHOLE * WHOLE):
        return [(slice(0, b), slice(0, e))]
    return list(_stretches(places[0], b, e, causal, window))


def _stretches(own: np.ndarray, b: int, e: int, causal: bool, window: int | None) -> Iterator[Span]:
    for at in range(0, b, STRETCH):
        to = min(at + STRETCH, b)
        if not causal:
            yield slice(at, to), slice(0, e)
            continue
        first, last = own[min(at, len(own) - 1)], own[min(to, len(own)) - 1]
        begin = 0 if window is None else max(first - window + 1, 0) // ROUND * ROUND
        yield slice(at, to), slice(int(begin), min(rounded(int(last) + 1), e))


def _size(span: Span) -> int:
    queries, keys = span
    return (queries.stop - queries.start) * (keys.stop - keys.start)


def _side(start: int, lengths: Sequence[int], device: torch.device | str) -> Side:
    longest, rows = rounded(max(lengths)), slice(start, start + sum(lengths))
    if len(lengths) == 1 or min(lengths) == longest:
        return Side(rows, len(lengths), longest)
    real = np.arange(longest)[None] < np.asarray(lengths)[:, None]
    return Side(rows, len(lengths), longest, torch.from_numpy(np.flatnonzero(real)).to(device))


def rounded(length: int) -> int:
    """A length as blocks have it."""
    return -(-length // ROUND) * ROUND


def _hidden(
    places: Sequence[np.ndarray],
    lengths: Sequence[int],
    span: Span,
    causal: bool,
    window: int | None,
    device: torch.device | str,
) -> tuple[int, Tensor | None]:
    """Which keys each query must not see, from the first column where there is any."""
    queries, seen = span
    keys = np.arange(seen.start, seen.stop)
    last = [own[-1] if len(own) else 0 for own in places]  # a slot of padding sees what the last query does
    ends = [np.full(queries.stop - len(own[: queries.stop]), end) for own, end in zip(places, last, strict=True)]
    at = np.stack([np.append(own[: queries.stop], end) for own, end in zip(places, ends, strict=True)])
    at = at[:, queries.start :, None]
    hidden = keys >= np.asarray(lengths)[:, None, None]
    if causal:
        hidden = hidden | (keys > at)
        if window is not None:
            hidden = hidden | (keys <= at - window)
    hidden = np.broadcast_to(hidden, (len(places), at.shape[1], len(keys)))
    if not hidden.any():
        return 0, None
    if (hidden == hidden[:1]).all():
        hidden = hidden[:1]
    # rounded down: additions to columns that begin anywhere are slow
    first = int(hidden.any(axis=(0, 1)).argmax()) // ROUND * ROUND
    mask = np.where(hidden[..., first:], -np.inf, 0).astype(np.float32)
    return first, torch.from_numpy(mask).to(device)
