"""Whether two sets of lengths come from one distribution: the Kolmogorov-Smirnov distance, ranked by permutation.

The textbook's p values are wrong for lengths, which are whole numbers with many ties. Ranked among the distances of
random re-labellings of the same numbers, the observed one keeps its level whatever the ties (Fisher 1935; Romano
1989). n and m numbers, N = n + m, R re-labellings.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RELABELLINGS = 2000
BLOCK_CELLS = 2_000_000


@dataclass(frozen=True)
class Shift:
    """`distance`: the largest gap between the two cumulative shares, 0 to 1; `p`: how often chance gives as much."""

    distance: float
    p: float


def shift(a: np.ndarray, b: np.ndarray, seed: int = 0) -> Shift:
    """Compare the lengths `a` (n,) and `b` (m,); both hold at least one."""
    n, m = len(a), len(b)
    pooled = np.concatenate([a, b])
    order = np.argsort(pooled, kind="stable")
    values = pooled[order]
    last = np.append(values[1:] != values[:-1], True)  # where a run of ties ends
    step = np.where(order < n, m, -n)  # in parts of n times m, so that equal distances are equal numbers
    observed = np.abs(np.cumsum(step)[last]).max()
    rng = np.random.default_rng(seed)
    extreme, size = 0, max(BLOCK_CELLS // (n + m), 1)
    for start in range(0, RELABELLINGS, size):
        drawn = rng.permuted(np.tile(step, (min(size, RELABELLINGS - start), 1)), axis=1)
        distances = np.abs(np.cumsum(drawn, axis=1)[:, last]).max(axis=1)
        extreme += int((distances >= observed).sum())
    return Shift(float(observed / (n * m)), (extreme + 1) / (RELABELLINGS + 1))
