"""LoRA: PEFT's own reading of the saved folder, the start from the base's function, targets, errors."""

from __future__ import annotations

import warnings
from pathlib import Path

import peft
import pytest
import torch
from pydantic import ValidationError
from torch import nn
from transformers.pytorch_utils import Conv1D

from luthier.core.errors import UserError
from luthier.core.files import read_json, sha256
from luthier.methods.lora import Lora, load, prepare, save
from tests.toy_models import FAMILIES, batch, logits, toy_model, train


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_peft_loads_the_folder_to_the_last_bit(family, tmp_path):
    trainable = prepare(toy_model(family), Lora(rank=4), seed=1)
    train(trainable, 1e-2, steps=3)
    save(trainable, tmp_path, Lora(), "the/base")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("error", UserWarning)
        model = peft.PeftModel.from_pretrained(toy_model(family), tmp_path)
        inputs = batch(trainable.model)
        assert torch.equal(model(**inputs).logits, trainable.model(**inputs).logits)
    assert read_json(tmp_path / "adapter_config.json")["base_model_name_or_path"] == "the/base"


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_that_peft_wrote_loads(family, tmp_path):
    settings = peft.LoraConfig(r=3, target_modules="all-linear", init_lora_weights=False)
    settings.fan_in_fan_out = family == "gpt2"
    theirs = peft.get_peft_model(toy_model(family), settings)
    theirs.save_pretrained(tmp_path)
    trainable = load(toy_model(family), tmp_path)
    inputs = batch(trainable.model)
    with torch.no_grad():
        assert torch.equal(trainable.model(**inputs).logits, theirs.eval()(**inputs).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_it_starts_from_the_bases_own_function(family):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainable = prepare(toy_model(family), Lora(dropout=0.5), seed=0)
    base = toy_model(family)
    with torch.no_grad():
        assert torch.equal(trainable.model(**batch(base)).logits, base(**batch(base)).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_all_linear_is_every_linear_layer_but_the_output(family):
    """rank x (inputs + outputs) of each: what the adapters must amount to."""
    model = toy_model(family)
    output = model.get_output_embeddings()
    layers = [m for m in model.modules() if isinstance(m, nn.Linear | Conv1D) and m is not output]
    expected = sum(5 * sum(layer.weight.shape) for layer in layers)
    trainable = prepare(model, Lora(rank=5), seed=0)
    assert sum(p.numel() for p in trainable.parameters.values()) == expected
    assert not any("lm_head" in name for name in trainable.parameters)


def test_the_update_is_alpha_over_rank_times_b_a():
    """With B = 1 and A = 1 each adapter adds (alpha / rank) * rank * sum(x) to each output."""
    model = toy_model("llama")
    layer = model.model.layers[0].self_attn.q_proj
    x = torch.randn(3, 32, generator=torch.Generator().manual_seed(0))
    plain = layer(x)
    for alpha, factor in ((None, 2.0), (1.0, 0.25)):
        trainable = prepare(toy_model("llama"), Lora(rank=4, alpha=alpha, targets="q_proj"), seed=0)
        for parameter in trainable.parameters.values():
            nn.init.ones_(parameter)
        changed = trainable.model.model.layers[0].self_attn.q_proj(x)
        assert torch.allclose(changed - plain, (factor * 4 * x.sum(dim=1, keepdim=True)).expand(-1, 32), atol=1e-4)


def test_dropout_acts_in_training_only():
    trainable = prepare(toy_model("llama"), Lora(dropout=0.5), seed=0)
    with torch.no_grad():
        for parameter in trainable.parameters.values():
            parameter.fill_(0.1)
    assert torch.equal(logits(trainable), logits(trainable))
    trainable.model.train()
    assert not torch.equal(logits(trainable), logits(trainable))


def test_targets_by_name():
    trainable = prepare(toy_model("llama"), Lora(targets=("q_proj", "layers.1.mlp.down_proj")), seed=0)
    layers = {name.split(".lora_")[0] for name in trainable.parameters}
    assert layers == {f"model.layers.{i}.self_attn.q_proj" for i in (0, 1)} | {"model.layers.1.mlp.down_proj"}


@pytest.mark.parametrize(("target", "hint"), [("q_porj", "mean 'q_proj'"), ("lm_head", "known"), ("proj", "mean")])
def test_a_target_that_is_no_linear_layer_is_refused(target, hint):
    with pytest.raises(UserError, match=f"no linear layer is called '{target}': .*{hint}"):
        prepare(toy_model("llama"), Lora(targets=target), seed=0)


@pytest.mark.parametrize("options", [{"rank": 0}, {"alpha": -1}, {"dropout": 1}, {"targets": ()}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValidationError):
        Lora(**options)


def test_the_same_adapter_gives_the_same_bytes(tmp_path):
    trainable = prepare(toy_model("t5"), Lora(), seed=0)
    for name in "ab":
        save(trainable, tmp_path / name, Lora(), "base")
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        assert sha256(tmp_path / "a" / file) == sha256(tmp_path / "b" / file)
    targets = read_json(tmp_path / "a" / "adapter_config.json")["target_modules"]
    assert targets == sorted(targets)


def test_an_adapter_of_another_base_is_refused(tmp_path):
    save(prepare(toy_model("llama"), Lora(targets="q_proj"), seed=0), tmp_path, Lora(), "base")
    with pytest.raises(UserError, match="no linear layer is called"):
        load(toy_model("gpt2"), tmp_path)
    config = tmp_path / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 8', '"r": 4'))
    with pytest.raises(UserError, match=r"lora_A.weight is \(8, 32\) in the adapter and \(4, 32\) in the base"):
        load(toy_model("llama"), tmp_path)


@pytest.mark.parametrize("file", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_damaged_adapter_is_refused(file, tmp_path):
    save(prepare(toy_model("llama"), Lora(), seed=0), tmp_path, Lora(), "base")
    Path(tmp_path / file).write_bytes(b"{")
    with pytest.raises(UserError, match="cannot be read"):
        load(toy_model("llama"), tmp_path)


TOP = {"llama": "model.layers.1", "gpt2": "transformer.h.1", "bloom": "transformer.h.1", "t5": "decoder.block.1"}


@pytest.mark.parametrize("family", TOP)
def test_adapters_in_the_top_layer_alone(family, tmp_path):
    """The linear layers of the last one, of an encoder-decoder its decoder's; PEFT loads them into the same."""
    model = toy_model(family)
    expected = {
        n for n, m in model.named_modules() if n.startswith(TOP[family]) and isinstance(m, nn.Linear | Conv1D)
    }
    trainable = prepare(model, Lora(layers=1), seed=0)
    assert {name.split(".lora_")[0] for name in trainable.parameters} == expected
    train(trainable, 1e-2, steps=3)
    save(trainable, tmp_path, Lora(layers=1), "the/base")
    found = logits(trainable)
    assert torch.equal(logits(load(toy_model(family), tmp_path)), found)
    theirs = peft.PeftModel.from_pretrained(toy_model(family), tmp_path)
    inputs = batch(trainable.model)
    with torch.no_grad():
        assert torch.equal(theirs(**inputs).logits, trainable.model(**inputs).logits)


def test_targets_within_the_top_layers():
    trainable = prepare(toy_model("llama"), Lora(layers=1, targets=("q_proj", "layers.1.mlp.up_proj")), seed=0)
    layers = {name.split(".lora_")[0] for name in trainable.parameters}
    assert layers == {"model.layers.1.self_attn.q_proj", "model.layers.1.mlp.up_proj"}
    with pytest.raises(UserError, match=r"no linear layer is called 'model.layers.0.mlp.up_proj'"):
        prepare(toy_model("llama"), Lora(layers=1, targets="model.layers.0.mlp.up_proj"), seed=0)


@pytest.mark.parametrize(("family", "whose"), [("llama", "the model has"), ("t5", "its decoder has")])
def test_more_layers_than_there_are(family, whose):
    every = prepare(toy_model(family), Lora(layers=2), seed=0)
    assert any("0." in name for name in every.parameters)
    with pytest.raises(UserError, match=f"3 are asked for and {whose} 2: write 2 or less"):
        prepare(toy_model(family), Lora(layers=3), seed=0)


def test_a_model_whose_layers_are_no_single_stack_is_refused():
    model = toy_model("llama")
    model.model.more = nn.ModuleList()
    with pytest.raises(UserError, match="no single stack of them to count: leave `layers` out"):
        prepare(model, Lora(layers=1), seed=0)
