"""What every method promises: it learns, touches nothing else, comes back as saved, and depends on its seed only."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError

from luthier.core.errors import UserError
from luthier.methods import METHODS
from tests.toy_models import FAMILIES, batch, logits, toy_model, train

LEARNING_RATE = {"full": 3e-3, "lora": 1e-2, "prompt": 1e-1}
MARGIN = {"full": 0.5, "lora": 0.35, "prompt": 0.1}  # share of the loss gone after 40 steps


def prepared(name: str, family: str, seed: int = 0, **config):
    method = METHODS[name]
    return method.prepare(toy_model(family), method.config(**config), seed)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", METHODS)
def test_it_learns_and_only_its_parameters_change(name, family):
    trainable = prepared(name, family)
    assert {n for n, p in trainable.model.named_parameters() if p.requires_grad} == set(trainable.parameters)
    before = {n: p.detach().clone() for n, p in trainable.model.named_parameters()}
    first, last = train(trainable, LEARNING_RATE[name])
    assert last < (1 - MARGIN[name]) * first
    for n, p in trainable.model.named_parameters():
        assert torch.equal(p, before[n]) is (n not in trainable.parameters), n


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", METHODS)
def test_saved_and_loaded_onto_a_fresh_base_it_is_the_same_function(name, family, tmp_path, capfd):
    method = METHODS[name]
    trainable = prepared(name, family)
    train(trainable, LEARNING_RATE[name], steps=3)
    method.save(trainable, tmp_path, method.config(), "the/base")
    loaded = method.load(toy_model(family), tmp_path)
    assert loaded.prefix == trainable.prefix
    assert list(loaded.parameters) == list(trainable.parameters)
    assert capfd.readouterr() == ("", ""), "progress is Luthier's own to draw"
    assert torch.equal(logits(loaded), logits(trainable))
    assert not torch.equal(logits(loaded), logits(prepared(name, family)))


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_alone_decides_the_start(name):
    torch.manual_seed(1)
    one = prepared(name, "llama", seed=5)
    state = torch.get_rng_state()
    torch.manual_seed(2)
    two = prepared(name, "llama", seed=5)
    other = prepared(name, "llama", seed=6)
    assert list(one.parameters) == list(two.parameters)
    assert all(torch.equal(one.parameters[n], two.parameters[n]) for n in one.parameters)
    if name != "full":
        assert any(not torch.equal(one.parameters[n], other.parameters[n]) for n in one.parameters)
    torch.manual_seed(1)
    toy_model("llama")
    assert torch.equal(torch.get_rng_state(), state), "preparing must not draw from the global generator"


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("training", [True, False])
def test_the_mode_is_left_as_it_was(name, training):
    method = METHODS[name]
    model = toy_model("llama").train(training)
    config = method.config(dropout=0.5) if name == "lora" else method.config()
    model = method.prepare(model, config, 0).model
    assert {module.training for module in model.modules()} == {training}


@pytest.mark.parametrize("name", METHODS)
def test_a_misspelt_option_is_refused(name):
    with pytest.raises(ValidationError, match="rnak"):
        METHODS[name].config(rnak=8)


@pytest.mark.parametrize("name", METHODS)
def test_a_folder_without_the_saved_part_is_refused(name, tmp_path):
    with pytest.raises(UserError, match=r"holds no (model|adapter)"):
        METHODS[name].load(toy_model("llama"), tmp_path)


@pytest.mark.parametrize("name", METHODS)
def test_a_copy_of_the_model_is_independent(name):
    trainable = prepared(name, "t5")
    twin = copy.deepcopy(trainable.model)
    expected = twin(**batch(twin, trainable.prefix)).logits
    train(trainable, LEARNING_RATE[name], steps=2)
    assert torch.equal(twin(**batch(twin, trainable.prefix)).logits, expected)
