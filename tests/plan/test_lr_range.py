"""The learning-rate range test: what the curve says, and on which batches it is drawn."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from luthier.cli.ranges import advice, chart
from luthier.core.artefacts import Artefacts
from luthier.plan import lr_range
from luthier.plan.lr_range import HIGHEST, LOWEST, WARM, judge, rising, run, short_step, smooth
from luthier.recipe.schema import Evaluate, Plan, Train
from luthier.recipe.sections import PlanSection
from tests.train import toy
from tests.train.conftest import furnished

__all__ = ["furnished"]


def test_rates_rise_by_one_factor_from_end_to_end():
    rates = rising(9)
    assert rates == pytest.approx([10.0**e for e in range(-7, 2)])
    assert (rates[0], rates[-1]) == pytest.approx((LOWEST, HIGHEST))


def test_the_smoothed_loss_is_a_mean_of_those_so_far():
    """Weights 0.9 and 1 over 1.9: (0.9 * 4 + 2) / 1.9."""
    assert smooth([4.0, 2.0]) == pytest.approx([4.0, 5.6 / 1.9])
    assert smooth([3.0] * 7) == pytest.approx([3.0] * 7)


def valley(rates, best=1e-2):
    """A loss that falls from 5 and is lowest, 2, at the best rate."""
    return [2 + 3 * min(abs(math.log10(rate / best)) / 3, 1) for rate in rates]


def test_the_suggestion_is_a_decade_below_the_lowest_point():
    """Smoothing is late by about nine steps of 0.08 decades."""
    rates = rising(100)
    found = judge(rates, valley(rates))
    lowest = rates[found.smoothed.index(min(found.smoothed[WARM:]))]
    assert found.suggested == pytest.approx(lowest / 10)
    assert 0 < math.log10(lowest / 1e-2) < 1
    assert 1e-5 < found.steepest < lowest and not found.diverged


def test_a_loss_that_never_falls_suggests_nothing():
    rates = rising(20)
    found = judge(rates, [3.0] * 10 + [3.0 * 1.2**i for i in range(10)])
    assert found.suggested is None and found.steepest is None
    assert "never fell" in advice(found.__dict__)


def test_what_is_no_number_ends_the_test_and_is_left_out():
    rates = rising(20)
    found = judge(rates, [*valley(rates)[:15], math.inf])
    assert found.diverged and len(found.losses) == len(found.rates) == len(found.smoothed) == 15


def test_a_loss_far_above_the_lowest_is_a_divergence():
    assert judge(rising(20), [4.0] * 10 + [40.0] * 10).diverged
    assert not judge(rising(20), [4.0] * 20).diverged


def section(folder, **training):
    wanted = toy.section(folder, **training)
    settings = {**wanted.training.model_dump(), "variants": {"low": {}, "half": {"rates": {"mlp": 0.5}}}}
    return PlanSection(
        seed=wanted.seed,
        model=wanted.model,
        data=wanted.data,
        plan=Plan(),
        train=Train.model_validate(settings),
        evaluate=Evaluate(),
    )


@pytest.mark.parametrize("optimizer", ["adamw", "mezo", "lomo"])
def test_every_variant_is_tried_on_its_own_batches(furnished, optimizer, monkeypatch):
    folder = furnished()
    monkeypatch.setattr(lr_range, "STEPS", 60 if optimizer == "adamw" else 12)
    wanted = section(folder, optimizer=optimizer, tokens_per_step=30, micro_tokens=60)
    found = run(wanted, Artefacts(folder, {"data": folder / "data"}))
    assert list(found) == ["low", "half"]
    low, half = found["low"], found["half"]
    assert low["losses"][0] == half["losses"][0] and low["losses"][-1] != half["losses"][-1]
    if optimizer == "adamw":
        assert low["diverged"] and LOWEST < low["suggested"] < low["rates"][-1] < HIGHEST


def test_a_step_is_the_first_rows_of_a_planned_one_within_a_micro_batch(furnished):
    folder = furnished()
    job = toy.job_of(folder, toy.section(folder, tokens_per_step=90, micro_tokens=40))
    job = replace(job, layout=replace(job.layout, packed=False))
    for place in (0, 1, len(job.steps)):
        batches = short_step(job, place)
        rows = job.steps[place % len(job.steps)][1]
        taken = [row for batch in batches for row in batch.rows]
        assert sorted(taken) == sorted(rows[: len(taken)].tolist())
        assert job.lengths[taken].sum() <= 40 < job.lengths[rows[: len(taken) + 1]].sum()
        assert all(batch.inputs["input_ids"].numel() <= 40 for batch in batches)


def test_the_chart_shows_the_valley():
    lines = chart([1e-3, 1e-2, 1e-1, 1.0], [3.0, 2.0, 1.0, 9.0])
    columns = ["".join(line[10:][i : i + 1] for line in lines[:8]) for i in range(4)]
    assert [column.index("●") for column in columns] == [4, 6, 7, 0]  # the highest shown is twice the first: 6
    assert lines[0].startswith("       6 │") and lines[7].startswith("       1 │")
    assert lines[-1].split() == ["1e-03", "1e+00"]
    assert chart([], []) == []


def test_the_suggestion_is_written_as_a_key():
    told = advice({"suggested": 3e-4, "steepest": 1e-4})
    assert told.startswith("train.learning_rate: 3.0e-04") and "1.0e-04" in told
    assert float(told.split()[1]) == pytest.approx(3e-4)
