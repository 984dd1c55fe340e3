"""States on disk: read back to the bit, by another process too, and never what a crash has left half written."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from luthier.engine.frozen.store import STATES, SUMS, Store

OFFSETS, WIDTH = np.array([0, 3, 3, 8, 9]), 5
ROWS = (0, 2, 3)


def states(row, dtype=torch.float32):
    generator = torch.Generator().manual_seed(row)
    return torch.randn(int(OFFSETS[row + 1] - OFFSETS[row]), WIDTH, generator=generator).to(dtype)


def opened(folder, dtype=torch.float32, width=WIDTH):
    return Store(folder, OFFSETS, width, dtype)


def read(store, row):
    """The row, or None where it is not there."""
    into = torch.empty(store.length(row), WIDTH, dtype=store.dtype)
    return into if store.holds(row) and store.read(row, into) else None


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def filled(request, tmp_path):
    store = opened(tmp_path, request.param)
    for row in reversed(ROWS):
        store.write(row, states(row))
    return store


def test_rows_come_back_to_the_bit(filled, tmp_path):
    for store in (filled, opened(tmp_path, filled.dtype)):
        for row in ROWS:
            assert torch.equal(read(store, row), states(row, filled.dtype))
        assert store.bytes == 9 * WIDTH * filled.dtype.itemsize
    filled.close()


def test_a_row_that_was_not_written_is_not_there(tmp_path):
    store = opened(tmp_path)
    store.write(2, states(2))
    assert [store.holds(row) for row in range(4)] == [False, False, True, False]
    assert [opened(tmp_path).holds(row) for row in range(4)] == [False, False, True, False]


@pytest.mark.parametrize("file", [STATES, SUMS])
def test_a_torn_or_damaged_row_is_not_there_and_can_be_written_again(tmp_path, file):
    store = opened(tmp_path)
    for row in ROWS:
        store.write(row, states(row))
    body = (tmp_path / file).read_bytes()
    start = {STATES: 3 * WIDTH * 4, SUMS: 2 * 4}[file]
    (tmp_path / file).write_bytes(body[: start + 1] + bytes([body[start + 1] ^ 4]) + body[start + 2 :])
    again = opened(tmp_path)
    assert torch.equal(read(again, 0), states(0)) and read(again, 2) is None and not again.holds(2)
    again.write(2, states(2))
    assert torch.equal(read(again, 2), states(2))


def test_a_file_cut_short_loses_the_rows_behind_the_cut(tmp_path):
    store = opened(tmp_path)
    for row in ROWS:
        store.write(row, states(row))
    body = (tmp_path / STATES).read_bytes()
    (tmp_path / STATES).write_bytes(body[: 4 * WIDTH * 4])
    again = opened(tmp_path)
    assert read(again, 0) is not None and read(again, 2) is None and read(again, 3) is None


@pytest.mark.parametrize("other", [{"width": WIDTH + 1}, {"dtype": torch.bfloat16}])
def test_states_of_another_kind_are_thrown_away(tmp_path, other):
    opened(tmp_path).write(0, states(0))
    assert not opened(tmp_path, **other).holds(0)
    assert not opened(tmp_path).holds(0)
