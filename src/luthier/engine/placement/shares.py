"""A step's micro-batches shared out: every process takes as many, and together they take each row once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Share:
    """Rows of one micro-batch; an `idle` one counts nothing, it keeps step with processes that still have rows."""

    rows: np.ndarray
    idle: bool = False


def share_out(groups: list[np.ndarray], lengths: np.ndarray, rank: int, size: int) -> list[Share]:
    """The micro-batches of one of `size` processes, as many as of any other.

    All meet at every block of the model, so that the slowest sets the pace: micro-batches are dealt in order of their
    tokens. Where they cannot be dealt evenly, the largest are cut in two; where every one is a single row, the
    processes left over read the shortest row idly.
    """
    if size == 1 or not groups:
        return [Share(group) for group in groups]

    def tokens(group: np.ndarray) -> int:
        return int(lengths[group].sum())

    groups = sorted(groups, key=tokens, reverse=True)
    while len(groups) % size and (place := next((i for i, g in enumerate(groups) if len(g) > 1), None)) is not None:
        large = groups.pop(place)
        groups += [large[: len(large) // 2], large[len(large) // 2 :]]
        groups.sort(key=tokens, reverse=True)
    shares = [Share(group) for group in groups]
    shares += [Share(groups[-1][-1:], idle=True)] * (-len(shares) % size)
    return shares[rank::size]
