"""Splits: exact sizes, groups whole, and as little movement as possible when rows are added."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.core.errors import UserError
from luthier.data import split


def split_rows(*given, **named) -> dict[str, list[int]]:
    """The rows of each split as a list."""
    return {name: rows.tolist() for name, rows in split.split_rows(*given, **named).items()}


def keys(start: int, end: int) -> list[str]:
    return [f"row {i}" for i in range(start, end)]


def test_sizes_are_exact_without_groups():
    found = split_rows(keys(0, 1000), {"test": 0.1, "validation": 37}, seed=1)
    assert {name: len(rows) for name, rows in found.items()} == {"test": 100, "validation": 37, "train": 863}
    assert sorted(row for rows in found.values() for row in rows) == list(range(1000))
    assert all(rows == sorted(rows) for rows in found.values())


def test_a_share_is_at_least_a_row_and_zero_is_none():
    found = split_rows(keys(0, 5), {"test": 0.05, "validation": 0}, seed=1)
    assert (len(found["test"]), len(found["validation"]), len(found["train"])) == (1, 0, 4)


def test_the_seed_decides_and_nothing_else():
    sizes = {"test": 50, "validation": 50}
    assert split_rows(keys(0, 500), sizes, seed=1) == split_rows(keys(0, 500), sizes, seed=1)
    assert split_rows(keys(0, 500), sizes, seed=1) != split_rows(keys(0, 500), sizes, seed=2)


def test_added_rows_push_out_at_most_as_many_as_they_bring():
    sizes = {"test": 0.1, "validation": 0.05}
    before = split_rows(keys(0, 1000), sizes, seed=3)
    after = split_rows(keys(1000, 1020) + keys(0, 1000), sizes, seed=3)
    moved = {name: {i for i in rows} - {i - 20 for i in after[name]} for name, rows in before.items()}
    # 20 new rows enlarge the test by 2 and the validation by 1: what moves is what new rows or the test displace.
    assert len(moved["test"]) <= 20 - 2 and len(moved["validation"]) <= 20 + 2 and len(moved["train"]) <= 3 + 20
    assert len(moved["test"]) <= 6


def test_another_test_size_leaves_other_rows_in_place():
    small = split_rows(keys(0, 1000), {"test": 50, "validation": 0}, seed=3)
    large = split_rows(keys(0, 1000), {"test": 80, "validation": 0}, seed=3)
    assert set(small["test"]) < set(large["test"])


@given(st.lists(st.integers(0, 30), min_size=20, max_size=200), st.integers(0, 5))
def test_groups_never_straddle(groups, seed):
    names = [str(group) for group in groups]
    try:
        found = split_rows(names, {"test": 0.2, "validation": 0.1}, seed, by="scenario")
    except UserError:
        return
    where = {name: {names[row] for row in rows} for name, rows in found.items()}
    assert not where["train"] & where["test"] and not where["train"] & where["validation"]
    assert not where["validation"] & where["test"]
    largest = max(names.count(name) for name in names)
    assert abs(len(found["test"]) - 0.2 * len(names)) <= largest + 0.5


@pytest.mark.parametrize(
    ("names", "sizes", "by", "sentence"),
    [
        (keys(0, 10), {"test": 10, "validation": 0}, None, r"data\.split\.test = 10 rows, but only 10 can be used"),
        (keys(0, 10), {"test": 5, "validation": 5}, None, "test 5 and validation 5 leave none of the 10 rows"),
        (keys(0, 10), {"test": 0.99, "validation": 0.5}, None, "validation would be empty|leave none"),
        (
            ["a"] * 10,
            {"test": 2, "validation": 0},
            "scenario",
            "test would be empty: no value of 'scenario' has as few",
        ),
        (["same"] * 10, {"test": 2, "validation": 0}, None, "its 2 of 10 rows are all copies"),
    ],
)
def test_splits_that_cannot_be_made(names, sizes, by, sentence):
    with pytest.raises(UserError, match=sentence):
        split_rows(names, sizes, seed=1, by=by)
