"""The least operations of a step: derived by hand, and counted by torch on a real model."""

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.train.flops import Decoder, EncoderDecoder, attention, decoder, encoder_decoder, last_rows, triangle

SMALL = Decoder(hidden=2, layers=1, width=2, narrow=1, inner=3, vocabulary=5)


def test_a_trained_layer_counted_by_hand():
    # one sequence of 3, one label: keys and values of 3 rows, everything else of 1; three products each
    products = 3 * 2 * (2 * 2 + 2 * (2 * 1) * 3 + 2 * 2 + 3 * (2 * 3))
    looks = 2  # the query before the last token sees two keys
    head = 3 * 2 * 2 * 5
    assert decoder(SMALL, [3], [1], None) == products + 12 * 2 * looks + head == 336


def test_a_lora_counted_by_hand():
    # frozen: two products each, in the first layer one for q, k and v, whose inputs nothing trains below
    frozen = 2 * (2 * 2 + 2 * (2 * 1) * 3) + 2 * 2 * (2 * 2 + 3 * (2 * 3))
    thin = 6 * ((2 + 2) + 2 * (2 + 1) * 3 + (2 + 2) + 3 * (2 + 3))  # rank 1: A and B, three products each
    assert decoder(SMALL, [3], [1], 1) == frozen + thin + 12 * 2 * 2 + 2 * 2 * 2 * 5 == 454


def test_sequences_add_up():
    shape = Decoder(hidden=8, layers=3, width=8, narrow=4, inner=12, vocabulary=20)
    both = decoder(shape, [7, 5], [2, 3], 4)
    assert both == decoder(shape, [7], [2], 4) + decoder(shape, [5], [3], 4)


def test_queries_of_labels_see_the_keys_before_them():
    assert [last_rows(5, labelled) for labelled in range(5)] == [0, 4, 7, 9, 10]
    assert triangle(4) == 10


def test_torch_counts_the_same_products_where_every_row_is_needed():
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    config._attn_implementation = "eager"
    model, length = LlamaForCausalLM(config), 6
    with FlopCounterMode(display=False) as counter:
        model(torch.arange(length)[None]).logits.sum().backward()
    counted = counter.get_flop_counts()["Global"][torch.ops.aten.mm]
    shape = Decoder(hidden=16, layers=2, width=16, narrow=8, inner=24, vocabulary=40)
    looks = triangle(length) + last_rows(length, length)
    assert decoder(shape, [length], [length], None) - attention(16, looks) == counted


def test_an_encoder_decoder_counted_by_hand():
    shape = EncoderDecoder(hidden=2, layers=1, width=3, inner=4, vocabulary=5)
    own = 4 * (2 * 3) + 3 * (2 * 4)  # self attention and MLP of a token
    cross = 2 * (2 * 3)  # keys and values of a token read, or query and output of a token said
    products = 3 * 2 * ((own + cross) * 3 + (own + cross) * 2)
    looks = 3 * 3 + 3 + 3 * 2  # the encoder sees all, the decoder its past, and all that was read
    assert encoder_decoder(shape, [3], [2], None) == products + 12 * 3 * looks + 3 * 2 * 2 * 5 * 2
