"""Learning-rate factors at points where the formula can be worked out by hand."""

import pytest

from luthier.engine.schedules import factor


@pytest.mark.parametrize(
    ("schedule", "step", "expected"),
    [
        ("constant", 0, 1 / 11),  # warm-up over 10 of 100 steps: 1/11, 2/11, ... 10/11
        ("constant", 9, 10 / 11),
        ("constant", 10, 1.0),
        ("constant", 99, 1.0),
        ("linear", 10, 1.0),
        ("linear", 55, 0.5),
        ("linear", 99, 1 / 90),
        ("cosine", 10, 1.0),
        ("cosine", 55, 0.5),
        ("cosine", 40, 0.75),  # a third of the way: (1 + cos 60 degrees) / 2
    ],
)
def test_factor(schedule, step, expected):
    assert factor(schedule, step, 100, 0.1) == pytest.approx(expected, abs=1e-12)


def test_without_warmup_the_first_step_has_the_peak():
    assert factor("cosine", 0, 50, 0.0) == 1.0


def test_one_step_runs_at_the_peak():
    assert factor("linear", 0, 1, 0.05) == 1.0
