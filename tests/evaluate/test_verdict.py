"""The verdict on a learning curve: a made curve for each rule, and the numbers that the rule must name."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.evaluate.verdict import judge, smooth

STEPS = range(1, 101)
FLAT = [(step, 2.0) for step in STEPS]


def _falling(low: float, pace: float) -> list[tuple[int, float]]:
    return [(step, low + 3 * math.exp(-step / pace)) for step in STEPS]


def test_learning_when_the_last_third_still_falls() -> None:
    validation = [(0, 4.0), (25, 3.0), (50, 2.5), (75, 2.3), (100, 2.2)]
    # from step 50, the last point in the first two thirds, 2.5 -> 2.2 is a fall of 12 %
    found = judge(_falling(2.0, 60), validation)
    assert found.verdict == "learning"
    assert "from step 50" in found.rule and "2.500 to 2.200" in found.rule and "12.0%" in found.rule


def test_plateau_when_the_last_third_falls_by_less_than_one_percent() -> None:
    validation = [(0, 4.0), (25, 2.4), (50, 2.01), (75, 2.0), (100, 1.995)]  # 2.01 -> 1.995: 0.75 %
    found = judge(_falling(1.9, 15), validation)
    assert (found.verdict, "never" in found.rule) == ("plateau", False)


def test_plateau_says_when_nothing_was_learnt_at_all() -> None:
    found = judge(FLAT, [(0, 2.02), (50, 2.01), (100, 2.005)])
    assert found.verdict == "plateau"
    assert "never fell by more than 0.7% in all" in found.rule  # 1 - 2.005 / 2.02


def test_overfitting_when_validation_rises_while_training_falls() -> None:
    validation = [(0, 4.0), (25, 2.0), (50, 2.1), (75, 2.2), (100, 2.3)]  # 2.3 / 2.0: 15 % above the best
    found = judge(_falling(0.5, 40), validation)
    assert found.verdict == "overfitting"
    assert "2.000 (step 25) to 2.300 (step 100), by 15.0%" in found.rule


def test_a_rise_below_two_percent_is_not_overfitting() -> None:
    validation = [(0, 4.0), (25, 2.0), (50, 2.0), (75, 2.01), (100, 2.03)]
    assert judge(_falling(0.5, 40), validation).verdict == "plateau"


def test_unstable_when_validation_rises_and_training_does_not_fall() -> None:
    assert judge(FLAT, [(0, 4.0), (25, 2.0), (50, 2.5), (100, 3.0)]).verdict == "unstable"


def test_unstable_when_the_training_loss_jumps() -> None:
    train = [(step, 2.0 if step <= 60 else 3.0) for step in STEPS]  # from 2 to 3 is a rise of 50 %
    found = judge(train, [(0, 4.0), (50, 2.0), (100, 2.0)])
    assert found.verdict == "unstable" and "by 50%" in found.rule


def test_noise_of_single_steps_is_no_jump() -> None:
    noise = np.random.default_rng(0).normal(0, 0.5, 100)
    train = [(step, 2.0 + float(noise[step - 1])) for step in STEPS]
    assert judge(train, [(0, 2.0), (50, 2.0), (100, 2.0)]).verdict == "plateau"


def test_unstable_when_a_loss_is_no_number() -> None:
    found = judge([(1, 2.0), (2, math.nan)], [(0, 2.0)])
    assert found.verdict == "unstable" and "step 2" in found.rule


def test_too_few_points_are_not_judged() -> None:
    assert judge([(1, 2.0)], [(1, 2.0)]).verdict == "unknown"
    assert judge([], []).verdict == "unknown"


def test_without_validation_the_training_curve_is_judged() -> None:
    found = judge(_falling(1.0, 80), [])
    assert found.verdict == "learning" and "training loss" in found.rule


def test_smoothing_takes_medians_of_at_most_twenty_blocks() -> None:
    blocks = smooth([(step, float(step % 5)) for step in STEPS])  # blocks of five steps hold 0 to 4 once each
    assert len(blocks) == 20 and {loss for _, loss in blocks} == {2.0}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, 10), min_size=3, max_size=40), st.floats(0.5, 4))
def test_the_verdict_does_not_depend_on_the_unit_of_the_loss(losses: list[float], factor: float) -> None:
    validation = [(10 * i, loss) for i, loss in enumerate(losses)]
    scaled = [(step, loss * factor) for step, loss in validation]
    assert judge(validation, validation).verdict == judge(scaled, scaled).verdict
