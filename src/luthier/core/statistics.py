"""How sure a corpus metric is, and whether two systems differ: intervals, paired tests, detectable effects.

A metric is given as sufficient statistics, one row of k numbers per test row, and a `value` that turns their sums
over rows into the metric. Every resample is then a row of weights, and a thousand of them one matrix product.
R resamples, n rows, k statistics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from math import isfinite, nan
from statistics import NormalDist

import numpy as np

Value = Callable[[np.ndarray], np.ndarray]
"""Sums over rows (..., k) -> metric (...)."""

BLOCK_CELLS = 4_000_000  # weights held at once, 32 MB
POWER = 0.8  # of the test at the effect that is called detectable
ROUNDING = 1e-9  # relative: below it two differences are the same number


@dataclass(frozen=True)
class Interval:
    """A metric over n rows and its interval; nan where n is too small to tell."""

    value: float
    low: float
    high: float
    n: int

    def to_json(self) -> dict[str, float | int | None]:
        """JSON values; null stands for what n is too small to tell."""
        return _finite(asdict(self))


@dataclass(frozen=True)
class Comparison:
    """System a minus system b on the same n rows.

    `p` is two-sided. `detectable` is the smallest true difference that such a test finds with 80 % power, given the
    spread that these rows show; nan, as are `low` and `high`, where n is too small to tell.
    """

    difference: float
    low: float
    high: float
    p: float
    detectable: float
    n: int

    def to_json(self) -> dict[str, float | int | None]:
        """JSON values; null stands for what n is too small to tell."""
        return _finite(asdict(self))


def interval(
    statistics: np.ndarray, value: Value, *, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Interval:
    """The metric and its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13).

    `statistics` (n, k). In simulations 95 % intervals cover 94 to 95 % at n = 200, for means as for perplexities, and
    bias-corrected accelerated ones no more; at n = 20 both are too sure of themselves (92 and 90 %).
    """
    n = _rows(statistics)
    drawn = np.concatenate([value(w @ statistics) for w in _bootstrap(n, resamples, seed)])
    low, high = _percentiles(drawn, n, confidence)
    return Interval(float(value(statistics.sum(axis=0))), low, high, n)


def paired(
    a: np.ndarray, b: np.ndarray, value: Value, *, resamples: int = 2000, confidence: float = 0.95, seed: int = 0
) -> Comparison:
    """Compare two systems by their statistics `a` and `b` (n, k) of the same rows in the same order.

    The interval resamples rows, the same ones for both. The p value is that of approximate randomisation (Noreen
    1989): were the systems alike, swapping their results on any row would change nothing, so the observed
    difference is ranked among those of random swaps, itself counted as one of them. It keeps its level at every n.
    """
    n = _rows(a)
    assert a.shape == b.shape, (a.shape, b.shape)
    difference = float(value(a.sum(axis=0)) - value(b.sum(axis=0)))
    drawn = np.concatenate([value(w @ a) - value(w @ b) for w in _bootstrap(n, resamples, seed)])
    low, high = _percentiles(drawn, n, confidence)
    p = _swap_test(a, b, value, difference, resamples, seed)
    return Comparison(difference, low, high, p, _detectable(a, b, value, confidence), n)


def _rows(statistics: np.ndarray) -> int:
    assert statistics.ndim == 2 and len(statistics), statistics.shape
    return len(statistics)


def _bootstrap(n: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Blocks (r, n) of how often each resample draws each row; the seed alone decides them, whatever the system."""
    rng = np.random.default_rng([seed, 0])
    for size in _blocks(n, resamples):
        drawn = rng.integers(0, n, (size, n)) + np.arange(size)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n).astype(float)


def _swap_test(a: np.ndarray, b: np.ndarray, value: Value, difference: float, resamples: int, seed: int) -> float:
    rng = np.random.default_rng([seed, 1])
    middle, half = (a.sum(axis=0) + b.sum(axis=0)) / 2, (a - b) / 2
    least = abs(difference) - ROUNDING * max(abs(float(value(a.sum(axis=0)))), abs(float(value(b.sum(axis=0)))))
    extreme = 0
    for size in _blocks(len(a), resamples):
        shift = rng.choice([-1.0, 1.0], (size, len(a))) @ half
        extreme += int((np.abs(value(middle + shift) - value(middle - shift)) >= least).sum())
    return (extreme + 1) / (resamples + 1)


def _detectable(a: np.ndarray, b: np.ndarray, value: Value, confidence: float) -> float:
    """(z of the test + z of the power) standard errors of the paired difference, by the jackknife."""
    n = len(a)
    if n < 2:
        return nan
    without = value(a.sum(axis=0) - a) - value(b.sum(axis=0) - b)
    error = np.sqrt((n - 1) * without.var())
    normal = NormalDist()
    return float((normal.inv_cdf((1 + confidence) / 2) + normal.inv_cdf(POWER)) * error)


def _percentiles(drawn: np.ndarray, n: int, confidence: float) -> tuple[float, float]:
    if n < 2:
        return nan, nan
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _blocks(n: int, resamples: int) -> Iterator[int]:
    size = max(BLOCK_CELLS // n, 1)
    for start in range(0, resamples, size):
        yield min(size, resamples - start)


def _finite(values: dict[str, float | int]) -> dict[str, float | int | None]:
    return {name: number if isfinite(number) else None for name, number in values.items()}
