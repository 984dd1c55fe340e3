"""The formula against numbers worked out by hand."""

from __future__ import annotations

from luthier.engine.batches import Layout, collate
from luthier.plan.memory import (
    SLACK,
    Shape,
    Stack,
    activation_bytes,
    predicted_bytes,
    shape_of,
    shapes_bytes,
    stacks_of,
    training_bytes,
    weight_bytes,
)
from tests.plan.examples import example
from tests.toy_models import toy_model

SHAPE = Shape(parameters=1000, trainable=100, width=8, inner=16, heads=2, vocabulary=50)


def test_weights_are_four_bytes_each_and_what_trains_twelve_more():
    assert weight_bytes(SHAPE) == 4000
    assert training_bytes(SHAPE) == 1200


def test_activations_by_hand():
    """3 layers x 10 tokens x (8 x 8 + 3 x 16 = 112 floats) = 3360; 5 labels x 50 x 3 = 750 floats; 4 bytes each."""
    assert activation_bytes(SHAPE, (Stack(layers=3, tokens=10),), labels=5) == 4 * (3360 + 750)


def test_attention_scores_count_twice_for_each_head_where_they_are_kept():
    """100 scores x 2 heads x 2, in each of 3 layers: 1200 floats."""
    kept = activation_bytes(SHAPE, (Stack(3, 10, scores=100),), labels=0)
    assert kept - activation_bytes(SHAPE, (Stack(3, 10),), labels=0) == 4 * 1200


def test_the_whole_is_the_sum():
    stacks = (Stack(3, 10),)
    assert shapes_bytes(SHAPE, stacks, 5) == 4000 + 1200 + activation_bytes(SHAPE, stacks, 5)


def test_the_sizes_are_read_from_the_configuration():
    llama = shape_of(toy_model("llama").config, 1, 1)
    assert (llama.width, llama.inner, llama.heads, llama.vocabulary) == (32, 48, 4, 53)
    gpt2 = shape_of(toy_model("gpt2").config, 1, 1)
    assert (gpt2.width, gpt2.inner) == (32, 128)  # no inner width in the file: four times the width
    t5 = shape_of(toy_model("t5").config, 1, 1)
    assert (t5.width, t5.inner, t5.heads) == (32, 48, 4)


def test_a_packed_batch_has_one_row_and_fused_attention_no_scores():
    batch = collate([example(5), example(3)], Layout(False, True, 0))
    assert stacks_of(toy_model("llama").config, batch) == (Stack(2, 8),)


def test_an_encoder_decoder_has_two_stacks_and_keeps_its_scores():
    """2 rows, 5 read and 4 spoken: encoder 2 x 5 x 5, decoder 2 x 4 x (4 itself + 5 of the encoder)."""
    batch = collate([example(5, 4), example(3, 2)], Layout(True, False, 0))
    assert stacks_of(toy_model("t5").config, batch) == (Stack(2, 10, 50), Stack(2, 8, 72))


def test_the_prediction_lies_12_percent_and_some_slack_above_the_probe():
    assert predicted_bytes(1000 * 2**20) == 1120 * 2**20 + SLACK
