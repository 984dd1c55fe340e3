"""Time, money and budget against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from luthier.core.errors import Refusal
from luthier.plan.cost import (
    Amounts,
    Rates,
    answer_seconds,
    change,
    check_budget,
    dollars,
    test_seconds,
    training_seconds,
    validations,
)
from luthier.recipe.schema import Budget
from luthier.train.loop import validation_steps

test_seconds.__test__ = False  # pyright: ignore[reportFunctionMemberAccess]
RATES = Rates(trained=0.001, updated=0.01, scored=0.0004, read=0.02, spoken=0.003)
AMOUNTS = Amounts(
    steps=50,
    tokens=100_000,
    validations=11,
    validation_tokens=5000,
    asked=10,
    test_rows=200,
    test_tokens=20_000,
    new_tokens=30,
)


def test_training_is_its_tokens_its_updates_and_its_validations():
    """100 s + 0.5 s of updates; a validation scores for 2 s and answers for 10 x (0.02 + 30 x 0.003) = 1.1 s."""
    assert training_seconds(RATES, AMOUNTS) == pytest.approx(100.5 + 11 * 3.1)


def test_rows_seen_again_and_later_validations_have_rates_of_their_own():
    """Of 100,000 tokens 60,000 are replayed: 40 s + 24 s + 0.5 s; scored in 2 s + 10 x 0.5 s, answered 11 x 1.1 s."""
    again = replace(AMOUNTS, seen=60_000)
    assert training_seconds(RATES, again) == training_seconds(RATES, AMOUNTS), "where nothing is kept"
    rates = replace(RATES, replayed=0.0004, rescored=0.0001)
    assert training_seconds(rates, again) == pytest.approx(64.5 + 2 + 5 + 12.1)


def test_answers_read_longer_prompts_where_examples_stand_in_them():
    assert answer_seconds(RATES, 10, 30) == pytest.approx(1.1)
    assert answer_seconds(RATES, 10, 30, prompts=4) == pytest.approx(10 * (0.08 + 0.09))
    assert test_seconds(RATES, AMOUNTS) == pytest.approx(8 + 22)


@pytest.mark.parametrize("steps", [1, 3, 10, 57, 400])
@pytest.mark.parametrize("share", [0.0, 0.05, 0.1, 0.25, 1.0])
def test_validations_are_counted_as_training_makes_them(steps, share):
    assert validations(steps, share) == len(validation_steps(steps, share))


def test_an_hour_costs_what_the_recipe_says():
    assert dollars(1800, 0.10) == pytest.approx(0.05)


def test_within_the_budget_nothing_is_said():
    check_budget(Budget(hours=1), 0.1, {"full": 3000}, fixed=600, epochs=3)
    check_budget(Budget(), 0.1, {"full": 10**9}, fixed=0, epochs=3)
    check_budget(Budget(usd=0.01), 0.0, {"full": 10**9}, fixed=0, epochs=3)


@pytest.mark.parametrize(
    ("limit", "training", "fixed", "epochs", "expected"),
    [
        (1000, {"a": 1000, "b": 800}, 100, 4, "write train.epochs: 2"),  # 900 of 1800 s: half of the epochs
        (400, {"a": 1000, "b": 800}, 100, 3, "take 50% of the rows"),  # 300 of 1800 s: a half of one epoch
        (850, {"a": 40_000, "b": 800}, 100, 1, "train the variant b alone"),
        (50, {"a": 1000}, 100, 3, "a smaller model"),  # the test rows alone are too many
    ],
)
def test_the_cheapest_change_that_fits_is_named(limit, training, fixed, epochs, expected):
    assert expected in change(limit, training, fixed, epochs)
    with pytest.raises(Refusal, match=expected):
        check_budget(Budget(hours=limit / 3600), 0.1, training, fixed, epochs)


def test_the_named_epochs_fit():
    """2.7 epochs of 3 fill the budget exactly; what is named never exceeds it."""
    text = change(2800, {"a": 3000}, 100, 3)
    assert text == "write train.epochs: 2.7"
    assert 2.7 / 3 * 3000 + 100 <= 2800


def test_a_budget_in_money_is_kept_too():
    """1 usd at 0.5 usd an hour are two hours."""
    check_budget(Budget(usd=1), 0.5, {"a": 7000}, fixed=100, epochs=3)
    with pytest.raises(Refusal, match=r"2\.1 hours \(1\.03 usd\) and the budget is 2\.0 hours"):
        check_budget(Budget(usd=1), 0.5, {"a": 7300}, fixed=100, epochs=3)
