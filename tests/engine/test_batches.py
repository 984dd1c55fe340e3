"""Batches worked out by hand: which ids stand where, which positions must say what, and whose they are."""

from __future__ import annotations

import numpy as np

from luthier.core.shards import IGNORED, Example
from luthier.engine.batches import Layout, collate

X = IGNORED
ROWS = [
    Example(np.array([11, 12, 13, 14]), np.array([X, X, 13, 14]), 5),
    Example(np.array([21, 22]), np.array([X, 22]), 8),
]
PAIRS = [
    Example(np.array([11, 12, 13]), np.array([31, 32]), 5),
    Example(np.array([21]), np.array([41, X, 43]), 8),
]


def test_packed_rows_lie_end_to_end():
    batch = collate(ROWS, Layout(encoder_decoder=False, packed=True, pad=0))
    filler = [0] * 58  # to 64 tokens, a sequence of its own
    assert batch.inputs["input_ids"].tolist() == [[11, 12, 13, 14, 21, 22, *filler]]
    assert batch.inputs["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1, *range(58)]]
    assert "attention_mask" not in batch.inputs and batch.lengths == (4, 2, 58)
    # 13 is said where 12 stands, 14 where 13 stands, 22 where 21 stands
    assert (batch.where.tolist(), batch.labels.tolist()) == ([1, 2, 4], [13, 14, 22])
    assert (batch.owner.tolist(), batch.rows, batch.tokens) == ([0, 0, 1], (5, 8), 6)


def test_packed_pairs_lie_end_to_end_on_both_sides():
    batch = collate(PAIRS, Layout(encoder_decoder=True, packed=True, pad=9, start=1))
    assert batch.inputs["input_ids"].tolist() == [[11, 12, 13, 21, *[9] * 60]]
    assert batch.inputs["decoder_input_ids"].tolist() == [[1, 31, 1, 41, 9, *[9] * 59]]
    assert (batch.lengths, batch.answers) == ((3, 1, 60), (2, 3, 59))
    assert (batch.where.tolist(), batch.labels.tolist()) == ([0, 1, 2, 4], [31, 32, 41, 43])
    assert (batch.owner.tolist(), batch.tokens) == ([0, 0, 1, 1], 9)


def test_a_row_that_fills_the_whole_gets_a_filler_all_the_same():
    """An encoder-decoder's two sides have as many sequences each, whatever their lengths."""
    batch = collate([Example(np.arange(64), np.arange(64), 0)], Layout(False, True, 0))
    assert batch.lengths == (64, 64)


def test_padded_rows_stand_below_one_another():
    batch = collate(ROWS, Layout(encoder_decoder=False, packed=False, pad=9))
    assert batch.inputs["input_ids"].tolist() == [[11, 12, 13, 14], [21, 22, 9, 9]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert (batch.where.tolist(), batch.labels.tolist()) == ([1, 2, 4], [13, 14, 22])
    assert batch.lengths is None and batch.tokens == 6


def test_an_encoder_decoder_is_given_its_own_answer_one_step_late():
    batch = collate(PAIRS, Layout(encoder_decoder=True, packed=False, pad=9, start=1))
    assert batch.inputs["input_ids"].tolist() == [[11, 12, 13], [21, 9, 9]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    # the second row's answer has a token that is not trained: it is read as padding
    assert batch.inputs["decoder_input_ids"].tolist() == [[1, 31, 9], [1, 41, 9]]
    assert (batch.where.tolist(), batch.labels.tolist()) == ([0, 1, 3, 5], [31, 32, 41, 43])
    assert (batch.owner.tolist(), batch.tokens) == ([0, 0, 1, 1], 9)


def test_a_prefix_stands_before_every_input_and_is_never_trained():
    decoder = collate(ROWS, Layout(encoder_decoder=False, packed=True, pad=0, prefix=(90, 91)))
    assert decoder.inputs["input_ids"].tolist()[0][:10] == [90, 91, 11, 12, 13, 14, 90, 91, 21, 22]
    assert (decoder.where.tolist(), decoder.labels.tolist()) == ([3, 4, 8], [13, 14, 22])
    encoder = collate(PAIRS, Layout(encoder_decoder=True, packed=False, pad=9, prefix=(90,)))
    assert encoder.inputs["input_ids"].tolist() == [[90, 11, 12, 13], [90, 21, 9, 9]]
    assert encoder.inputs["decoder_input_ids"].tolist() == [[0, 31, 9], [0, 41, 9]]


def test_the_first_token_is_never_a_label_with_or_without_a_prefix():
    whole = [Example(np.array([11, 12]), np.array([11, 12]), 0)]
    for prefix in ((), (90,)):
        batch = collate(whole, Layout(encoder_decoder=False, packed=True, pad=0, prefix=prefix))
        assert batch.labels.tolist() == [12]
