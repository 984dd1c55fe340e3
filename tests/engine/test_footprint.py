"""The formula against numbers worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from luthier.engine.batches import Layout, collate
from luthier.engine.footprint import Shape, Stack, activation_bytes, shape_of, stacks_of, whole_bytes
from luthier.engine.recompute import largest, layers_of, must_recompute
from tests.plan.examples import example
from tests.toy_models import toy_model

SHAPE = Shape(weights=4000, gradients=400, state=800, backward=True, width=8, inner=16, heads=2, vocabulary=50)
KNOWN = {"weights": 1, "gradients": 1, "state": 1, "backward": True}
STACKS = (Stack(layers=3, tokens=10),)


def test_without_a_backward_pass_one_layer_is_held_at_a_time():
    """Of the 3 layers x 10 tokens x 112 numbers and the 750 of the logits, a third of the first."""
    assert activation_bytes(replace(SHAPE, backward=False), STACKS, labels=5) == 4 * (1120 + 750)


def test_activations_by_hand():
    """3 layers x 10 tokens x (8 x 8 + 3 x 16 = 112 numbers) = 3360; 5 labels x 50 x 3 = 750 floats; 4 bytes each."""
    assert activation_bytes(SHAPE, STACKS, labels=5) == 4 * (3360 + 750)


def test_half_precision_halves_the_layers_and_not_the_loss():
    assert activation_bytes(replace(SHAPE, number=2), STACKS, labels=5) == 2 * 3360 + 4 * 750


def test_computed_again_a_layer_keeps_its_input_and_one_at_a_time_the_rest():
    """3 layers x 10 tokens x 8 wide, and 1120 of the layer at work."""
    assert activation_bytes(replace(SHAPE, recompute=True), STACKS, labels=0) == 4 * (240 + 1120)


def test_no_more_logits_than_a_chunk_stand_in_memory():
    """4 of the 5 rows at once: 4 x 50 x 3 floats."""
    assert activation_bytes(replace(SHAPE, logits=4), STACKS, labels=5) == 4 * (3360 + 600)


def test_attention_scores_count_for_each_head_where_they_are_kept():
    """100 scores x 2 heads, in each of 3 layers: 600 numbers."""
    kept = activation_bytes(SHAPE, (Stack(3, 10, scores=100),), labels=0)
    assert kept - activation_bytes(SHAPE, STACKS, labels=0) == 4 * 600


def test_the_whole_is_the_sum():
    assert whole_bytes(SHAPE, STACKS, 5) == 4000 + 400 + 800 + activation_bytes(SHAPE, STACKS, 5)


def test_the_sizes_are_read_from_the_configuration():
    llama = shape_of(toy_model("llama").config, **KNOWN)
    assert (llama.width, llama.inner, llama.heads, llama.vocabulary) == (32, 48, 4, 53)
    gpt2 = shape_of(toy_model("gpt2").config, **KNOWN)
    assert (gpt2.width, gpt2.inner) == (32, 128)  # no inner width in the file: four times the width
    t5 = shape_of(toy_model("t5").config, **KNOWN)
    assert (t5.width, t5.inner, t5.heads) == (32, 48, 4)


def test_a_packed_batch_is_one_row_and_keeps_the_probabilities_of_short_sequences():
    """5 and 3 tokens and a filler of 56, each a multiple of 16: 256 + 256 + 4096.

    Of 700 tokens, in stretches of 192, 192 (192 + 384 + 576) + 128 x 704 are kept, and 256 of a filler; of 900 they
    are computed again, those of its filler of 60 are not.
    """
    config = toy_model("llama").config
    layout = Layout(False, True, 0)
    assert stacks_of(config, collate([example(5), example(3)], layout)) == (Stack(2, 64, 4608),)
    assert stacks_of(config, collate([example(700)], layout)) == (Stack(2, 704, 311_296 + 256),)
    assert stacks_of(config, collate([example(900)], layout)) == (Stack(2, 960, 4096),)


def test_padded_rows_attend_in_a_fused_kernel_or_keep_scores_and_probabilities():
    config = toy_model("llama").config
    batch = collate([example(5), example(3)], Layout(False, False, 0))
    assert stacks_of(config, batch) == (Stack(2, 10),)
    config._attn_implementation = "eager"
    assert stacks_of(config, batch) == (Stack(2, 10, 2 * 2 * 25),)


def test_an_encoder_decoder_has_two_stacks():
    """2 rows, 5 read and 4 spoken: encoder 2 x 5 x 5, decoder 2 x 4 x (4 itself + 5 of the encoder), each twice."""
    batch = collate([example(5, 4), example(3, 2)], Layout(True, False, 0))
    assert stacks_of(toy_model("t5").config, batch) == (Stack(2, 10, 100), Stack(2, 8, 144))


def test_packed_it_keeps_the_probabilities_of_each_sequence():
    """Read 5, 3 and 56, spoken 4, 2 and 58, as multiples of 16: three times 256 + 256 + 4096."""
    batch = collate([example(5, 4), example(3, 2)], Layout(True, True, 0))
    assert stacks_of(toy_model("t5").config, batch) == (Stack(2, 64, 4608), Stack(2, 64, 2 * 4608))


@pytest.mark.parametrize(("choice", "free", "expected"), [
    ("keep", 0, False), ("recompute", 10**9, True), ("auto", 16_000, True), ("auto", 17_000, False),
])  # fmt: skip
def test_activations_are_computed_again_where_they_do_not_fit(choice, free, expected):
    """They, gradients and state take 13,440 + 400 + 800 bytes: 90 % of 16,267."""
    assert must_recompute(choice, SHAPE, layers=3, tokens=10, free=free) is expected


def test_without_a_backward_pass_nothing_is_kept_anyhow():
    assert not must_recompute("auto", replace(SHAPE, backward=False), layers=3, tokens=10, free=0)


def test_the_largest_micro_batch():
    """Of a step of 70 tokens with a row of 50, and one of 100 with a row of 30: never more than a step has."""
    tokens, longest = np.array([70, 100]), np.array([50, 30])
    assert [largest(tokens, longest, budget) for budget in (10, 60, 1000)] == [50, 60, 100]


def test_layers_of_both_halves_count():
    assert layers_of(toy_model("t5").config) == 4 and layers_of(toy_model("llama").config) == 2
