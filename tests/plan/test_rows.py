"""Batches taken apart give the rows that went in, whatever their layout."""

from __future__ import annotations

import numpy as np
import pytest

from luthier.core.records import Origin, Text
from luthier.engine.batches import Layout, collate
from luthier.plan.rows import marked, segments, unpack
from luthier.plan.subject import Row
from tests.plan.examples import example

RECORD = Text("text", Origin("source", "rows.jsonl", 3))


@pytest.mark.parametrize("prefix", [(), (90, 91, 92)])
@pytest.mark.parametrize("packed", [True, False])
def test_a_decoder_only_row_comes_back(packed, prefix):
    examples = [example(7, row=0), example(4, row=1), example(9, row=2)]
    batch = collate(examples, Layout(False, packed, 0, prefix=prefix))
    rows = unpack(batch, len(prefix), lambda row: RECORD, examples.__getitem__)
    for given, row in zip(examples, rows, strict=True):
        assert row.inputs.tolist() == row.sequence.tolist() == given.input_ids.tolist()
        assert row.trained.tolist() == np.flatnonzero(given.labels >= 0).tolist()
        assert row.said.tolist() == given.labels[given.labels >= 0].tolist()
        assert row.place == "rows.jsonl row 3"


@pytest.mark.parametrize("prefix", [(), (90, 91, 92)])
def test_an_encoder_decoder_row_comes_back(prefix):
    examples = [example(7, 5, row=0), example(4, 3, row=1)]
    batch = collate(examples, Layout(True, False, 0, prefix=prefix))
    rows = unpack(batch, len(prefix), lambda row: RECORD, examples.__getitem__)
    for given, row in zip(examples, rows, strict=True):
        assert row.inputs.tolist() == given.input_ids.tolist()
        assert row.sequence.tolist() == row.said.tolist() == given.labels.tolist()


def test_what_is_trained_is_marked():
    trained = np.array([2, 3, 5])
    row = Row(RECORD, np.arange(6), np.arange(6), trained, trained, example(6))
    pieces = segments(row, lambda ids: "".join("abcdef"[i] for i in ids))
    assert pieces == [("ab", False), ("cd", True), ("e", False), ("f", True)]
    assert marked(pieces) == "ab[[cd]]e[[f]]"
