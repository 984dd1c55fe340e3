"""Frozen weights in half precision from the start: the same as halved after loading, in fp32 where that is asked."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

from luthier.models.halves import linear_layers, posing, widened
from luthier.models.load import load_base
from luthier.recipe.schema import Model
from tests.models.toy import V, make
from tests.train import toy

FAMILIES = ("llama", "qwen2", "gpt2", "bloom", "t5", "gemma", "gemma3_text")


def halved(family):
    """A model with bf16 weights in its linear layers, and its twin with the same numbers in fp32."""
    model, twin = make(family), make(family)
    model.requires_grad_(False)
    for layer, other in zip(linear_layers(model), linear_layers(twin), strict=True):
        layer.weight = nn.Parameter(layer.weight.bfloat16(), requires_grad=False)
        other.weight = nn.Parameter(layer.weight.float())
    return model, twin


def asked(model):
    ids = torch.randint(3, V, (1, 11), generator=torch.Generator().manual_seed(0))
    given = {"decoder_input_ids": ids[:, :7]} if model.config.is_encoder_decoder else {}
    return model(input_ids=ids, use_cache=False, **given).logits


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_a_base_read_in_halves_is_the_base_halved(tmp_path, family, half):
    section = Model(base=str(toy.write_base(tmp_path, family)), context=32)
    whole, read = load_base(section), load_base(section, half=half)
    assert (read.packed, type(read.model)) == (whole.packed, type(whole.model))
    assert read.model.generation_config == whole.model.generation_config
    parameters = dict(whole.model.named_parameters())
    assert dict(read.model.named_parameters()).keys() == parameters.keys()
    output: Any = read.model.get_output_embeddings()
    linear = {id(layer.weight) for layer in linear_layers(read.model)}
    for name, value in read.model.named_parameters():
        assert not value.requires_grad
        assert torch.equal(value, parameters[name].to(value.dtype)), name
        if value is not output.weight:
            assert value.dtype == (half if id(value) in linear else torch.float32), name


def test_an_output_layer_of_its_own_is_halved_unless_it_may_grow(tmp_path):
    folder = str(toy.write_base(tmp_path, "llama"))
    layer = load_base(Model(base=folder, context=32), half=torch.bfloat16).model.get_output_embeddings()
    assert layer.weight.dtype == torch.bfloat16  # pyright: ignore
    more = Model(base=folder, context=32, add_tokens=("<|new|>",))
    whole, grown = load_base(more), load_base(more, half=torch.bfloat16)
    both = [base.model.get_output_embeddings().weight for base in (whole, grown)]  # pyright: ignore
    assert both[1].dtype == torch.float32
    assert torch.equal(*both)


@pytest.mark.parametrize("family", ["llama", "gemma3", "gpt2", "bloom", "t5"])
def test_widened_it_computes_in_fp32_forwards_and_backwards(family):
    model, twin = halved(family)
    before = [layer.weight for layer in linear_layers(model)]
    found, expected = [], []
    for one, results in ((model, found), (twin, expected)):
        with widened(one):
            table: Any = one.get_input_embeddings().weight
            table.requires_grad_(True)
            logits = asked(one)
            results += [logits, *torch.autograd.grad(logits.square().mean(), [table])]
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert all(layer.weight is half for layer, half in zip(linear_layers(model), before, strict=True))


def test_one_layer_is_wide_at_a_time_and_none_once_it_fails():
    model, _ = halved("llama")
    stack: Any = model.base_model.layers
    first, second = stack

    def types(layer):
        return {part.weight.dtype for part in linear_layers(layer)}

    def look(*_):
        assert types(first) == {torch.bfloat16}
        assert types(second) == {torch.float32}
        raise OverflowError

    second.mlp.register_forward_pre_hook(look)
    with widened(model), pytest.raises(OverflowError):
        asked(model)
    assert types(model) == {torch.bfloat16}


def test_no_wide_weight_outlives_its_layer_in_a_graph():
    model, _ = halved("llama")
    model.get_input_embeddings().weight.requires_grad_(True)
    seen = []
    for layer in linear_layers(model):
        layer.register_forward_hook(lambda layer, *_: seen.append(StorageWeakRef(layer.weight.untyped_storage())))
    with widened(model):
        loss = asked(model).square().mean()
        assert len(seen) == len([*linear_layers(model)]) and all(storage.expired() for storage in seen)
        loss.backward()


def test_code_that_looks_at_types_sees_fp32_and_no_memory():
    model, _ = halved("gpt2")
    before = [layer.weight for layer in linear_layers(model)]
    with posing(model):
        for layer, half in zip(linear_layers(model), before, strict=True):
            assert layer.weight.dtype == torch.float32
            assert layer.weight.shape == half.shape
            assert layer.weight.untyped_storage().nbytes() == 4
    assert all(layer.weight is half for layer, half in zip(linear_layers(model), before, strict=True))
