"""The batch path gives the loss and the gradients of plain, padded transformers, family by family (fp32)."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

from luthier.core.shards import IGNORED, Example
from luthier.engine.batches import Layout, collate
from luthier.engine.step import Computation, gradients
from luthier.methods.contract import Trainable
from luthier.models.head import PLAIN, mark_plain_head
from luthier.models.packing import adopt, counts_positions
from luthier.objectives import OBJECTIVES

WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 97}
ROTARY = {**WIDE, "intermediate_size": 48, "num_key_value_heads": 2}
FAMILIES = {
    "llama": (LlamaForCausalLM, LlamaConfig(**ROTARY), True),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**ROTARY), True),
    "gpt2": (
        GPT2LMHeadModel,
        GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=97, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0),
        True,
    ),
    "bloom": (BloomForCausalLM, BloomConfig(hidden_size=32, n_layer=2, n_head=4, vocab_size=97), True),
    "t5": (
        T5ForConditionalGeneration,
        T5Config(
            d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, vocab_size=97, dropout_rate=0.0,
            decoder_start_token_id=0, feed_forward_proj="gated-gelu", initializer_factor=0.3,
        ),
        True,
    ),
}  # fmt: skip


def build(family):
    cls, config, packable = FAMILIES[family]
    torch.manual_seed(0)
    model = cls(deepcopy(config)).eval()
    mark_plain_head(model)
    return model, adopt(model), packable


def rows(encoder_decoder):
    """Nine rows of unequal length, the answer trained; encoder-decoders: answers of their own."""
    rng = np.random.default_rng(0)
    found = []
    for number, length in enumerate([3, 41, 17, 8, 30, 2, 25, 12, 19]):
        ids = rng.integers(2, 97, length)
        labels = rng.integers(2, 97, length // 2 + 1) if encoder_decoder else ids.copy()
        if not encoder_decoder:
            labels[: length // 2] = IGNORED
        found.append(Example(ids, labels, number))
    return found


def plain(model, examples, encoder_decoder):
    """Mean loss and gradients of transformers' own padded path, with labels and IGNORED."""
    longest = max(len(e.input_ids) for e in examples)
    ids = torch.tensor([[*e.input_ids, *[0] * (longest - len(e.input_ids))] for e in examples])
    mask = torch.tensor([[1] * len(e.input_ids) + [0] * (longest - len(e.input_ids)) for e in examples])
    most = max(len(e.labels) for e in examples)
    labels = torch.tensor([[*e.labels, *[IGNORED] * (most - len(e.labels))] for e in examples])
    model.zero_grad()
    loss = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False).loss
    loss.backward()
    return loss.item(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


def ours(model, examples, layout, groups):
    """The same by the engine, over these micro-batches."""
    parameters = dict(model.named_parameters())
    computation = Computation(
        Trainable(model, parameters), OBJECTIVES["sft"], OBJECTIVES["sft"].config(), "fp32", torch.device("cpu")
    )
    model.zero_grad()
    batches = [collate([examples[i] for i in group], layout) for group in groups]
    result = gradients(computation, batches, clip=1e9)
    return result.loss, {n: p.grad.clone() for n, p in parameters.items() if p.grad is not None}


@pytest.mark.parametrize("groups", [[range(9)], [[4, 1, 7], [0], [8, 2, 3, 5, 6]]], ids=["whole", "micro"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradients_equal_padded_transformers(family, groups):
    model, packed, packable = build(family)
    assert packed == packable
    encoder_decoder = family == "t5"
    examples = rows(encoder_decoder)
    layout = Layout(encoder_decoder, packed, 0, positions=counts_positions(model))
    loss, gradient = ours(model, examples, layout, groups)
    expected_loss, expected = plain(build(family)[0], examples, encoder_decoder)
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert gradient.keys() == expected.keys()
    whole = torch.cat([g.flatten() for g in expected.values()]).norm()
    for name, value in expected.items():
        assert (gradient[name] - value).norm() <= 1e-5 * max(value.norm(), 1e-2 * whole), name


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_padded_and_packed_layouts_agree(family):
    model, _, _ = build(family)
    examples = rows(False)
    packed_loss, packed_gradient = ours(model, examples, Layout(False, True, 0), [range(9)])
    padded_loss, padded_gradient = ours(model, examples, Layout(False, False, 0), [range(9)])
    assert packed_loss == pytest.approx(padded_loss, rel=1e-6)
    for name, value in padded_gradient.items():
        torch.testing.assert_close(packed_gradient[name], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("plain", [True, False])
def test_only_labelled_positions_reach_the_output_layer(plain):
    """And none where the objective computes the likelihood from the hidden states."""
    model, _, _ = build("llama")
    setattr(model.lm_head, PLAIN, plain)
    seen = []
    model.lm_head.register_forward_hook(lambda module, args, output: seen.append(output.shape[-2]))
    examples = rows(False)
    ours(model, examples, Layout(False, True, 0), [range(9)])
    assert seen == [0 if plain else sum(int((e.labels[1:] != IGNORED).sum()) for e in examples)]


def test_unlabelled_tokens_get_no_gradient():
    """The last input token of a row predicts nothing: changing it leaves loss and other gradients alone."""
    model, _, _ = build("gpt2")
    examples = rows(False)
    changed = [Example(e.input_ids.copy(), e.labels, e.row) for e in examples]
    for example in changed:
        example.labels[-1] = IGNORED
    first, _ = ours(model, changed, Layout(False, True, 0), [range(9)])
    for example in changed:
        example.input_ids[-1] = 5
    second, _ = ours(model, changed, Layout(False, True, 0), [range(9)])
    assert first == second
