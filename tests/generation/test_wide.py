"""Keys and values kept in fp32 beside a model in bf16: nearer to the exact logits than in bf16, and only there."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention as sdpa

from luthier.generation.batch import DecoderOnly
from luthier.models.attention import NAME, attention
from luthier.models.packing import adopt
from tests.toy_models import toy_model

PROMPTS = [[5, 3, 8, 9, 4, 7], [2, 7, 11]]


def stepped(model, kept_in=...) -> torch.Tensor:
    """The logits after six more tokens of two unequal prompts."""
    batch = DecoderOnly(model, 0)
    if kept_in is not ...:
        batch.kept_in = kept_in
    with torch.no_grad():
        logits = batch.join(PROMPTS, 8)
        for token in range(6):
            logits = batch.advance(torch.tensor([token + 2, token + 5]))
    return logits.double()


@pytest.fixture(scope="module")
def llama():
    model = toy_model("llama")
    assert adopt(model)
    return model


def test_attention_is_that_of_the_wider_keys():
    query, key, value = (torch.randn(2, 3, n, 8) for n in (1, 5, 5))
    module = torch.nn.Module()
    module.is_causal = True
    found, _ = attention(module, query.bfloat16(), key, value, None)
    expected = sdpa(query.bfloat16().float(), key, value).transpose(1, 2).bfloat16()
    assert found.dtype == torch.bfloat16 and torch.equal(found, expected)


def test_a_model_in_bf16_keeps_fp32_and_comes_nearer(llama):
    rounded = deepcopy(llama).bfloat16()
    assert rounded.config._attn_implementation == NAME
    exact = stepped(deepcopy(rounded).double())
    wide, narrow = (stepped(rounded, *kept) for kept in ((), (None,)))
    assert (wide - exact).abs().mean() < (narrow - exact).abs().mean()


@pytest.mark.parametrize("precision", [torch.float32, torch.float64])
def test_any_other_keeps_what_it_computes(llama, precision):
    assert DecoderOnly(deepcopy(llama).to(precision), 0).kept_in is None
    plain = toy_model("llama").bfloat16()
    assert DecoderOnly(plain, 0).kept_in is None
