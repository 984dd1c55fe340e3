"""Step planning: every row is seen as often as its weight says, within the budget, whatever the memory."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from luthier.engine.steps import by_rows, by_tokens, epoch_order, micro_batches, plan_steps


def tokens(budget: int):
    """Steps of so many tokens."""
    return lambda own: by_tokens(own, budget)


lengths_and_budgets = st.tuples(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 120))


def one_by_one(order: np.ndarray, lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """The plain way to cut an order into steps: row after row, until the next one does not fit."""
    cuts, used = [], 0
    for place, row in enumerate(order):
        used += lengths[row]
        if used > budget and place > (cuts[-1] if cuts else 0):
            cuts.append(place)
            used = lengths[row]
    return np.split(order, cuts) if len(order) else []


def plain_plan(weights, lengths, seed, epochs, budget, max_steps=None):
    """The steps of a run as a list, each epoch drawn in one piece."""
    found = []
    for epoch in range(int(np.ceil(epochs))):
        rng = np.random.default_rng([seed, epoch])
        copies = np.floor(weights + rng.random(len(weights))).astype(int)
        order = rng.permutation(np.repeat(np.arange(len(weights)), copies))
        steps = one_by_one(order, lengths, budget)
        share = min(epochs - epoch, 1.0)
        found += [(epoch, rows) for rows in steps[: max(round(share * len(steps)), 1)]]
    return found[:max_steps]


@pytest.fixture(params=[1 << 17, 3])
def chunk(request, monkeypatch):
    """Rows worked on together: all of a test's, and so few that steps and chunks overlap in every way."""
    monkeypatch.setattr("luthier.engine.steps.CHUNK", request.param)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths_and_budgets)
def test_cutting_by_tokens_is_cutting_row_by_row(chunk, case):
    lengths, budget = np.array(case[0]), case[1]
    steps = np.split(np.arange(len(lengths)), by_tokens(lengths, budget)[1:])
    plain = one_by_one(np.arange(len(lengths)), lengths, budget)
    assert [step.tolist() for step in steps] == [step.tolist() for step in plain]
    for step in steps:
        assert lengths[step].sum() <= budget or len(step) == 1
    for before, after in pairwise(steps):  # nothing more would have fitted
        assert lengths[before].sum() + lengths[after[0]] > budget


def test_cuts_by_hand():
    assert by_tokens(np.array([5, 5, 5, 20, 1]), 10).tolist() == [0, 2, 3, 4]
    assert by_rows(np.ones(7), 3).tolist() == [0, 3, 6]
    assert len(by_tokens(np.zeros(0), 10)) == len(by_rows(np.zeros(0), 3)) == 0


@pytest.mark.parametrize(("epochs", "max_steps"), [(1, None), (3, None), (2.4, None), (3, 17), (0.01, None)])
def test_the_compact_plan_is_the_plain_one(chunk, epochs, max_steps):
    rng = np.random.default_rng(5)
    lengths, weights = rng.integers(1, 60, 137), rng.choice([0.0, 0.4, 1.0, 2.5], 137)
    plain = plain_plan(weights, lengths, 11, epochs, 100, max_steps)
    steps = plan_steps(weights, lengths, seed=11, epochs=epochs, cut=tokens(100), max_steps=max_steps)
    assert len(steps) == len(plain)
    for place in [*range(len(plain)), *range(len(plain))[::-5], -1]:
        assert steps[place][0] == plain[place][0] == steps.epochs[place]
        assert steps[place][1].tolist() == plain[place][1].tolist()
    assert steps.tokens.tolist() == [lengths[rows].sum() for _, rows in plain]
    assert steps.longest.tolist() == [lengths[rows].max() for _, rows in plain]
    assert steps.rows.tolist() == [len(rows) for _, rows in plain]
    with pytest.raises(IndexError):
        steps[len(plain)]


def test_rows_per_step_are_consecutive_rows_of_the_same_order():
    lengths = np.random.default_rng(5).integers(1, 60, 50)
    by_count = plan_steps(np.ones(50), lengths, seed=3, epochs=2, cut=lambda own: by_rows(own, 8))
    assert by_count.rows.tolist() == [8, 8, 8, 8, 8, 8, 2] * 2
    for epoch in (0, 1):
        drawn = np.concatenate([rows for number, rows in by_count if number == epoch])
        assert drawn.tolist() == epoch_order(np.ones(50), 3, epoch).tolist()


@given(lengths_and_budgets, st.booleans())
def test_micro_batches_hold_every_row_once_within_the_padded_budget(case, packed):
    lengths, budget = np.array(case[0]), case[1]
    groups = micro_batches(np.arange(len(lengths)), lengths, budget, packed)
    assert sorted(np.concatenate(groups).tolist()) == list(range(len(lengths)))
    for group in groups:
        cost = lengths[group].sum() if packed else lengths[group].max() * len(group)
        assert cost <= budget or len(group) == 1
    firsts = [lengths[group[0]] for group in groups]
    assert firsts == sorted(firsts, reverse=True)


def test_a_weight_of_two_and_a_half_is_seen_two_or_three_times():
    counts = [np.bincount(epoch_order(np.array([1.0, 2.5, 0.0]), 7, epoch), minlength=3) for epoch in range(400)]
    seen = np.array(counts)
    assert (seen[:, 0] == 1).all() and (seen[:, 2] == 0).all()
    assert set(seen[:, 1]) == {2, 3}
    # the third copy is a coin thrown 400 times: its mean lies within 4 standard deviations (0.1) of 2.5
    assert abs(seen[:, 1].mean() - 2.5) < 0.1


def test_epochs_differ_and_are_the_same_for_the_same_seed():
    weights = np.ones(50)
    assert epoch_order(weights, 1, 0).tolist() == epoch_order(weights, 1, 0).tolist()
    assert epoch_order(weights, 1, 0).tolist() != epoch_order(weights, 1, 1).tolist()
    assert epoch_order(weights, 1, 0).tolist() != epoch_order(weights, 2, 0).tolist()


@pytest.mark.parametrize(("epochs", "expected"), [(1, 10), (2, 20), (1.5, 15), (0.1, 1), (0.01, 1)])
def test_fractions_of_an_epoch(epochs, expected):
    steps = plan_steps(np.ones(40), np.full(40, 10), seed=0, epochs=epochs, cut=tokens(40))
    assert len(steps) == expected


def test_max_steps_cuts_the_plan_and_changes_nothing_before():
    full = plan_steps(np.ones(40), np.full(40, 10), seed=0, epochs=2, cut=tokens(40))
    cut = plan_steps(np.ones(40), np.full(40, 10), seed=0, epochs=2, cut=tokens(40), max_steps=7)
    assert len(cut) == 7
    assert all(a[0] == b[0] and (a[1] == b[1]).all() for a, b in zip(cut, full, strict=False))
