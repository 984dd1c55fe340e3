"""Shards are written as their rows come and read back as they were."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from luthier.core.shards import Example, Shard, write_shard


def examples(lengths: list[tuple[int, int]]) -> Iterator[Example]:
    rng = np.random.default_rng(0)
    for inputs, labels in lengths:
        yield Example(rng.integers(0, 60_000, inputs), rng.integers(-100, 60_000, labels))


@pytest.mark.parametrize("lengths", [[], [(3, 3)], [(5, 2), (0, 0), (7, 0), (1, 9)], [(400, 3)] * 300])
def test_what_is_written_is_read(tmp_path, lengths):
    write_shard(tmp_path, examples(lengths), ({"id": i} for i in range(len(lengths))), [0] * len(lengths), ["a"])
    shard = Shard(tmp_path)
    assert len(shard) == len(lengths) == len(shard.rows) == len(shard.records)
    for i, expected in enumerate(examples(lengths)):
        assert (shard[i].input_ids == expected.input_ids).all() and (shard[i].labels == expected.labels).all()
    assert shard.input_lengths.tolist() == [inputs for inputs, _ in lengths]
    assert shard.label_lengths.tolist() == [labels for _, labels in lengths]
    assert shard.input_ids.dtype == np.int32 and shard.sources == ["a"]


def test_records_are_read_by_row_and_by_slice_and_all_in_order(tmp_path):
    bodies = [{"text": f"{'é' * i}\n{i}"} for i in range(20)]
    write_shard(tmp_path, examples([(2, 2)] * 20), iter(bodies), [0] * 20, ["a"])
    shard = Shard(tmp_path)
    assert list(shard.rows) == bodies == [shard.rows[row] for row in range(20)]
    assert shard.rows[-1] == bodies[-1] and shard.rows[3:17:5] == bodies[3:17:5]
    for beyond in (shard, shard.rows):
        with pytest.raises(IndexError):
            beyond[20]
