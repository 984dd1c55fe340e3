"""Learning-rate factors at points where the formula can be worked out by hand."""

from math import sqrt

import pytest

from luthier.engine.schedules import SCHEDULES, factor
from luthier.recipe.values import Named


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
        ("wsd", 80, 1.0),  # the last fifth falls: 20 steps
        ("wsd", 85, 0.5),  # a quarter of it: 1 - sqrt(1 / 4)
        ("wsd", 99, 1 - sqrt(19 / 20)),
        ({"name": "wsd", "decay": "50%"}, 62, 1 - sqrt(12 / 50)),
        ({"name": "wsd", "decay": 1}, 10, 1.0),  # not before the warm-up has ended: 90 steps
        ({"name": "wsd", "decay": 1}, 50, 1 - sqrt(40 / 90)),
        ("inverse-sqrt", 10, 1.0),
        ("inverse-sqrt", 40, 0.5),  # sqrt(10 / 40)
        ("inverse-sqrt", 90, 1 / 3),
        ("cosine-restarts", 10, 1.0),
        ("cosine-restarts", 25, 0.5),  # three cycles of 30 steps
        ("cosine-restarts", 40, 1.0),
        ("cosine-restarts", 60, 0.25),  # two thirds: (1 + cos 120 degrees) / 2
        ({"name": "cosine-restarts", "cycles": 9}, 15, 0.5),
    ],
)
def test_factor(schedule, step, expected):
    assert factor(Named.model_validate(schedule), step, 100, 0.1) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_warmup_the_first_step_has_the_peak(schedule):
    assert factor(Named(name=schedule), 0, 50, 0.0) == 1.0


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_one_step_runs_at_the_peak(schedule):
    assert factor(Named(name=schedule), 0, 1, 0.05) == 1.0


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_step_is_above_the_peak_or_still(schedule):
    found = [factor(Named(name=schedule), step, 37, 0.1) for step in range(37)]
    assert all(0 < value <= 1 for value in found)
