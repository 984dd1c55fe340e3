"""Intervals cover, tests keep their level, detectable effects are detected: shown by simulation and by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from luthier.core.statistics import Comparison, Interval, interval, paired

ROWS, RESAMPLES, TRIALS = 200, 499, 1200
# Standard error of a simulated share of 0.95 or 0.05: 0.6 points; of 0.8: 1.2 points.


def ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def perplexity(sums: np.ndarray) -> np.ndarray:
    return np.exp(ratio(sums))


def means(rng: np.random.Generator) -> np.ndarray:
    """Scores between 0 and 1, as ROUGE gives them: Beta(1, 3), mean 1/4."""
    return np.column_stack([rng.beta(1, 3, ROWS), np.ones(ROWS)])


def likelihoods(rng: np.random.Generator) -> np.ndarray:
    """5 to 59 tokens a row at exp(N(0.5, 0.4)) nats: mean exp(0.58)."""
    tokens = rng.integers(5, 60, ROWS)
    return np.column_stack([tokens * np.exp(rng.normal(0.5, 0.4, ROWS)), tokens])


CASES = [(means, ratio, 0.25), (likelihoods, perplexity, math.exp(math.exp(0.58)))]


@pytest.mark.parametrize(("draw", "value", "truth"), CASES)
def test_intervals_cover_the_truth(draw, value, truth):
    rng = np.random.default_rng(1)
    found = [interval(draw(rng), value, resamples=RESAMPLES, seed=i) for i in range(TRIALS)]
    assert 0.93 <= np.mean([i.low <= truth <= i.high for i in found]) <= 0.97


def trials(shift: Callable[[Comparison], float] = lambda _: 0.0) -> list[Comparison]:
    """Two systems whose scores share the row's difficulty; a is better by `shift` of what was found without it."""
    rng = np.random.default_rng(2)
    found = []
    for i in range(TRIALS):
        common = rng.beta(1, 3, ROWS)
        a, b = (np.column_stack([common + rng.normal(0, 0.1, ROWS), np.ones(ROWS)]) for _ in "ab")
        a[:, 0] += shift(paired(a, b, ratio, resamples=100))
        found.append(paired(a, b, ratio, resamples=RESAMPLES, seed=i))
    return found


def test_the_test_keeps_its_level_and_the_interval_covers_no_difference():
    found = trials()
    assert 0.03 <= np.mean([c.p < 0.05 for c in found]) <= 0.07
    assert 0.93 <= np.mean([c.low <= 0 <= c.high for c in found]) <= 0.97


def test_a_detectable_difference_is_found_four_times_in_five():
    found = trials(shift=lambda alike: alike.detectable)
    assert 0.76 <= np.mean([c.p < 0.05 for c in found]) <= 0.84


def test_the_level_holds_for_a_ratio_and_for_few_rows():
    """At n = 8 a bootstrap would reject more often; swapping is exact whatever n."""
    rng = np.random.default_rng(3)
    rejected = {8: 0, ROWS: 0}
    for i in range(TRIALS):
        common = likelihoods(rng)
        a, b = (np.column_stack([common[:, 0] * np.exp(rng.normal(0, 0.2, ROWS)), common[:, 1]]) for _ in "ab")
        for n in rejected:
            rejected[n] += paired(a[:n], b[:n], perplexity, resamples=RESAMPLES, seed=i).p < 0.05
    assert all(0.03 <= count / TRIALS <= 0.07 for count in rejected.values()), rejected


def test_the_paired_spread_decides_not_that_of_each_system():
    """Rows differ by 0.5 at random, systems by 0.01 on each row: only pairing sees it."""
    rng = np.random.default_rng(4)
    common = rng.uniform(0, 0.5, ROWS)
    a = np.column_stack([common + 0.01 + rng.normal(0, 0.005, ROWS), np.ones(ROWS)])
    b = np.column_stack([common, np.ones(ROWS)])
    found = paired(a, b, ratio, resamples=2000)
    assert found.low > 0 and found.p == 1 / 2001
    assert interval(a, ratio).low < interval(b, ratio).value < interval(a, ratio).high


def test_detectable_by_hand():
    """Differences 1 and -1 in equal numbers: standard deviation sqrt(n / (n - 1)), error 1 / sqrt(n - 1)."""
    a = np.column_stack([[1.0, 0.0] * 50, np.ones(100)])
    b = np.column_stack([[0.0, 1.0] * 50, np.ones(100)])
    found = paired(a, b, ratio)
    assert found.detectable == pytest.approx((1.959964 + 0.841621) / math.sqrt(99), rel=1e-6)
    assert (found.difference, found.p) == (0.0, 1.0)
    assert paired(a, b, ratio, confidence=0.9).detectable == pytest.approx((1.644854 + 0.841621) / math.sqrt(99))


def test_the_interval_of_a_mean_is_about_two_standard_errors():
    """Of 400 zeros and ones in equal numbers: 0.5 +- 1.96 * 0.5 / 20."""
    statistics = np.column_stack([[0.0, 1.0] * 200, np.ones(400)])
    found = interval(statistics, ratio, resamples=20_000)
    assert found.value == 0.5 and found.n == 400
    assert found.low == pytest.approx(0.451, abs=0.003) and found.high == pytest.approx(0.549, abs=0.003)
    wide = interval(statistics, ratio, resamples=20_000, confidence=0.99)
    assert wide.high - wide.low == pytest.approx((found.high - found.low) * 2.5758 / 1.95996, rel=0.05)


def test_swapping_the_systems_turns_the_sign():
    rng = np.random.default_rng(5)
    a, b = means(rng), means(rng)
    one, other = paired(a, b, ratio), paired(b, a, ratio)
    assert (one.difference, one.low, one.high) == pytest.approx((-other.difference, -other.high, -other.low))
    assert (one.p, one.detectable) == pytest.approx((other.p, other.detectable))


def test_the_seed_decides_and_the_block_size_does_not(monkeypatch):
    rng = np.random.default_rng(6)
    a, b = means(rng), means(rng)
    assert paired(a, b, ratio, seed=1) == paired(a, b, ratio, seed=1) != paired(a, b, ratio, seed=2)
    whole = interval(a, ratio), paired(a, b, ratio)
    monkeypatch.setattr("luthier.core.statistics.BLOCK_CELLS", 7 * ROWS)
    assert (interval(a, ratio), paired(a, b, ratio)) == whole


def test_identical_systems_do_not_differ():
    a = means(np.random.default_rng(7))
    assert paired(a, a, ratio) == Comparison(0.0, 0.0, 0.0, 1.0, 0.0, ROWS)


def test_constant_rows_are_certain():
    ones, halves = (np.column_stack([np.full(30, score), np.ones(30)]) for score in (1.0, 0.5))
    assert interval(ones, ratio) == Interval(1.0, 1.0, 1.0, 30)
    found = paired(ones, halves, ratio)
    assert (found.difference, found.low, found.high, found.detectable) == pytest.approx((0.5, 0.5, 0.5, 0.0))
    assert found.p == 1 / 2001


def test_one_row_tells_nothing_beyond_itself():
    one, other = np.array([[3.0, 4.0]]), np.array([[1.0, 4.0]])
    assert interval(one, ratio).to_json() == {"value": 0.75, "low": None, "high": None, "n": 1}
    found = paired(one, other, perplexity)
    assert found.p == 1.0
    assert found.to_json() == {
        "difference": pytest.approx(math.exp(0.75) - math.exp(0.25)),
        "low": None,
        "high": None,
        "p": 1.0,
        "detectable": None,
        "n": 1,
    }


def test_a_thousand_resamples_of_ten_thousand_rows_stay_within_memory_and_seconds():
    rng = np.random.default_rng(8)
    statistics = rng.random((10_000, 10))
    assert interval(statistics, lambda sums: sums[..., 0], resamples=1000).n == 10_000
