"""Span corruption hides what it says it hides and loses nothing."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.core.errors import UserError
from luthier.core.shards import IGNORED, Example
from luthier.objectives.contract import Vocabulary
from luthier.objectives.text import TextConfig, corrupt, noise_mask, split_spans

STOP = 1
SENTINELS = tuple(range(1000, 1032))
VOCABULARY = Vocabulary(STOP, True, SENTINELS)


def example(length):
    return Example(np.append(np.arange(10, 10 + length), STOP), np.zeros(0, dtype=np.int64), 3)


def restore(corrupted):
    """Put the spans of the labels back where their sentinels stand in the input."""
    spans, current = {}, None
    for token in corrupted.labels[:-1]:
        if token in SENTINELS:
            current = spans.setdefault(int(token), [])
        else:
            current.append(int(token))
    result = []
    for token in corrupted.input_ids:
        result += spans[int(token)] if int(token) in spans else [int(token)]
    return result


@given(st.integers(2, 300), st.integers(0, 1000))
def test_nothing_is_lost(length, seed):
    original = example(length)
    corrupted = corrupt(original, TextConfig(), VOCABULARY, np.random.default_rng(seed))
    assert restore(corrupted) == original.input_ids.tolist()
    assert corrupted.labels[-1] == STOP and corrupted.input_ids[-1] == STOP
    assert corrupted.row == 3


def test_density_and_span_are_as_asked():
    # of 200 tokens 15 % are hidden: 30, in 10 spans of 3 on average
    mask = noise_mask(200, TextConfig(), 31, np.random.default_rng(0))
    assert mask.sum() == 30 and (mask & ~np.roll(mask, 1)).sum() == 10


def test_never_more_spans_than_sentinels():
    mask = noise_mask(2000, TextConfig(), 31, np.random.default_rng(0))
    assert (mask & ~np.roll(mask, 1)).sum() == 31


def test_by_hand():
    tokens = np.array([5, 6, 7, 8, 9])
    hidden = np.array([False, True, True, False, True])
    visible, spans = split_spans(tokens, hidden, np.array(SENTINELS))
    assert visible.tolist() == [5, 1000, 8, 1001]
    assert spans.tolist() == [1000, 6, 7, 1001, 9]


def test_a_hidden_beginning_has_its_sentinel_too():
    visible, spans = split_spans(np.array([5, 6, 7]), np.array([True, False, True]), np.array(SENTINELS))
    assert visible.tolist() == [1000, 6, 1001]
    assert spans.tolist() == [1000, 5, 1001, 7]


def test_positions_are_hidden_about_equally_often():
    rng = np.random.default_rng(1)
    share = np.mean([noise_mask(100, TextConfig(), 31, rng) for _ in range(2000)], axis=0)
    # each is a mean of 2000 draws of probability 0.15, with a standard deviation of 0.008
    assert share.min() > 0.15 - 0.04 and share.max() < 0.15 + 0.04


def test_decoder_only_models_are_trained_on_every_token():
    row = Example(np.array([5, 6, 7, STOP]), np.array([IGNORED, IGNORED, 7, STOP]), 3)
    read = corrupt(row, TextConfig(), Vocabulary(STOP, False), np.random.default_rng(0))
    assert read.labels.tolist() == read.input_ids.tolist() == [5, 6, 7, STOP]


def test_an_answer_is_refused_rather_than_lost():
    row = Example(np.array([5, 6, STOP]), np.array([7, STOP]), 3)
    with pytest.raises(UserError, match=r"data\.layout"):
        corrupt(row, TextConfig(), VOCABULARY, np.random.default_rng(0))


def test_a_tokenizer_without_sentinels_is_refused():
    with pytest.raises(UserError, match="extra_id_0"):
        corrupt(example(20), TextConfig(), Vocabulary(STOP, True), np.random.default_rng(0))


@pytest.mark.parametrize("length", [0, 1])
def test_a_text_too_short_to_hide_anything(length):
    corrupted = corrupt(example(length), TextConfig(), VOCABULARY, np.random.default_rng(0))
    assert corrupted.input_ids.tolist() == example(length).input_ids.tolist()
