"""The shift of lengths: the distance is scipy's, and the level holds with ties and without."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import ks_2samp

from luthier.monitor import lengths
from luthier.monitor.lengths import shift


@pytest.mark.parametrize(("n", "m", "most"), [(30, 200, 5), (200, 30, 300), (77, 78, 10_000)])
def test_the_distance_is_scipys(n, m, most):
    rng = np.random.default_rng(n)
    a, b = rng.integers(0, most, n), rng.integers(0, int(most * 1.2), m)
    assert shift(a, b).distance == pytest.approx(ks_2samp(a, b).statistic, abs=1e-12)
    assert shift(a, b).distance == shift(b, a).distance


def test_p_is_the_share_of_relabellings_by_hand():
    """Two against two, all different: of the 6 labellings two put both small ones together, D = 1 in those alone."""
    found = shift(np.array([1, 2]), np.array([3, 4]))
    assert found.distance == 1.0 and found.p == pytest.approx(2 / 6, abs=0.04)
    assert shift(np.array([5, 5, 5]), np.array([5, 5])) == lengths.Shift(0.0, 1.0)


@pytest.mark.parametrize(("n", "m", "most"), [(25, 40, 3), (60, 60, 12), (40, 300, 1000)])
def test_without_a_shift_it_is_called_as_often_as_the_level_says(monkeypatch, n, m, most):
    monkeypatch.setattr(lengths, "RELABELLINGS", 199)
    rng = np.random.default_rng(most)
    called = sum(shift(rng.integers(0, most, n), rng.integers(0, most, m), seed=i).p <= 0.05 for i in range(600))
    assert called / 600 <= 0.05 + 2.6 * (0.05 * 0.95 / 600) ** 0.5  # 99.5 % of binomials
    if most > 3:  # with three values the distance has few levels, and the test is careful
        assert called / 600 >= 0.05 - 3.1 * (0.05 * 0.95 / 600) ** 0.5


def test_prompts_half_as_long_again_are_found():
    rng = np.random.default_rng(0)
    found = [shift(rng.poisson(20, 60), rng.poisson(30, 60), seed=i).p < 0.01 for i in range(40)]
    assert sum(found) >= 38
