"""Step planning: every row is seen as often as its weight says, within the budget, whatever the memory."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.engine.steps import epoch_order, fill, micro_batches, plan_steps

lengths_and_budgets = st.tuples(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 120))


@given(lengths_and_budgets)
def test_fill_keeps_the_order_and_the_budget(case):
    lengths, budget = np.array(case[0]), case[1]
    order = np.random.default_rng(0).permutation(len(lengths))
    steps = fill(order, lengths, budget)
    assert np.concatenate(steps).tolist() == order.tolist()
    for step in steps:
        assert lengths[step].sum() <= budget or len(step) == 1
    for before, after in pairwise(steps):  # nothing more would have fitted
        assert lengths[before].sum() + lengths[after[0]] > budget


def test_fill_by_hand():
    lengths = np.array([5, 5, 5, 20, 1])
    assert [s.tolist() for s in fill(np.arange(5), lengths, 10)] == [[0, 1], [2], [3], [4]]


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
    steps = plan_steps(np.ones(40), np.full(40, 10), seed=0, epochs=epochs, budget=40)
    assert len(steps) == expected


def test_max_steps_cuts_the_plan_and_changes_nothing_before():
    full = plan_steps(np.ones(40), np.full(40, 10), seed=0, epochs=2, budget=40)
    cut = plan_steps(np.ones(40), np.full(40, 10), seed=0, epochs=2, budget=40, max_steps=7)
    assert len(cut) == 7
    assert all(a[0] == b[0] and (a[1] == b[1]).all() for a, b in zip(cut, full, strict=False))
