"""A step shared out: every row once, as many micro-batches for each process, and those of like size together."""

from __future__ import annotations

import numpy as np
import pytest

from luthier.engine.placement.shares import share_out
from luthier.engine.steps import micro_batches


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("rows", [1, 2, 5, 24])
@pytest.mark.parametrize("budget", [8, 40, 1000])
def test_each_row_is_read_once_and_all_have_as_much_to_do(size, rows, budget):
    lengths = np.random.default_rng(rows).integers(3, 20, rows)
    groups = micro_batches(np.arange(rows), lengths, budget, packed=True)
    shares = [share_out(groups, lengths, rank, size) for rank in range(size)]
    assert len({len(share) for share in shares}) == 1
    read = np.concatenate([part.rows for share in shares for part in share if not part.idle])
    assert sorted(read) == list(range(rows))
    idle = [part for share in shares for part in share if part.idle]
    assert len(idle) < size
    assert not idle or all(len(part.rows) == 1 for share in shares for part in share), "a row could have been shared"
    assert all(lengths[part.rows[0]] == lengths.min() for part in idle), "the shortest row is read idly"


def test_the_budget_is_kept():
    lengths = np.full(9, 10)
    groups = micro_batches(np.arange(9), lengths, 30, packed=True)
    assert max(lengths[part.rows].sum() for rank in (0, 1) for part in share_out(groups, lengths, rank, 2)) <= 30


def test_one_process_alone_takes_the_micro_batches_as_they_are():
    groups = [np.array([2, 0]), np.array([1])]
    assert [part.rows.tolist() for part in share_out(groups, np.array([3, 9, 4]), 0, 1)] == [[2, 0], [1]]


def test_what_is_met_at_a_time_is_of_like_size():
    """Largest first: 9 and 8 tokens meet, then 3 and 2, and nobody waits for a long row with a short one."""
    lengths = np.array([2, 9, 3, 8])
    groups = [np.array([row]) for row in range(4)]
    rounds = zip(*(share_out(groups, lengths, rank, 2) for rank in (0, 1)), strict=True)
    assert [[lengths[part.rows].sum() for part in pair] for pair in rounds] == [[9, 8], [3, 2]]
