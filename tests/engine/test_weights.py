"""Shares of the learning rate by layer and by name."""

from __future__ import annotations

import pytest

from luthier.core.errors import UserError
from luthier.engine.optimizers.weights import layer_rates, name_rates, weights_of
from luthier.methods import METHODS
from tests.toy_models import toy_model


def trainable(family, method="full", **options):
    entry = METHODS[method]
    return entry.prepare(toy_model(family), entry.config(**options), 0)


def test_each_layer_has_the_share_of_the_one_above_times_the_decay():
    names = ["model.embed_tokens.weight", *(f"model.layers.{i}.mlp.weight" for i in range(3)), "model.norm.weight"]
    found = layer_rates(names, {"model.embed_tokens.weight"}, 0.5)
    assert list(found.values()) == [0.125, 0.25, 0.5, 1.0, 1.0]


@pytest.mark.parametrize(
    ("family", "method", "lowest", "highest"),
    [
        ("llama", "full", "model.embed_tokens.weight", "lm_head.weight"),
        ("gpt2", "full", "transformer.wpe.weight", "transformer.ln_f.weight"),
        ("bloom", "full", "transformer.word_embeddings.weight", "transformer.h.1."),
        ("t5", "full", "shared.weight", "decoder.block.1."),
        ("llama", "lora", "model.layers.0.", "model.layers.1."),
    ],
)
def test_the_layers_of_real_models(family, method, lowest, highest):
    """Two layers each: a share of 0.5 for the lower, of 0.25 for what lies below it."""
    weights = weights_of(trainable(family, method), 0.5)
    least, most = (min(w.rate for w in weights), max(w.rate for w in weights))
    assert (least, most) == (0.5 if method == "lora" else 0.25, 1.0)
    assert any(w.name.startswith(lowest) and w.rate == least for w in weights)
    assert any(w.name.startswith(highest) and w.rate == 1.0 for w in weights)
    layers = {w.name: next((part for part in w.name.split(".") if part.isdigit()), None) for w in weights}
    assert {w.rate for w in weights if layers[w.name] == "0"} == {0.5}
    assert {w.rate for w in weights if layers[w.name] == "1"} == {1.0}


def test_an_output_layer_that_is_the_embedding_is_the_lowest():
    weights = {weight.name: weight.rate for weight in weights_of(trainable("qwen2"), 0.5)}
    assert weights["model.embed_tokens.weight"] == 0.25 and weights["model.norm.weight"] == 1.0


def test_embeddings_and_the_output_layer_are_not_inner():
    weights = weights_of(trainable("llama"))
    assert {w.name for w in weights if not w.inner} == {"model.embed_tokens.weight", "lm_head.weight"}
    assert all(w.rate == 1.0 for w in weights)


def test_rates_by_name_are_those_of_lora_plus_and_multiply():
    found = {w.name: w.rate for w in weights_of(trainable("llama", "lora"), 1.0, {"lora_B": 16, "layers.0": 0.5})}
    assert {(("lora_B" in name), ("layers.0" in name)): rate for name, rate in found.items()} == {
        (True, True): 8.0,
        (True, False): 16.0,
        (False, True): 0.5,
        (False, False): 1.0,
    }


def test_a_pattern_that_matches_nothing_is_refused():
    with pytest.raises(UserError, match="'lora_b' stands in the name of nothing that trains: did you mean 'lora_B'"):
        name_rates(["model.layers.0.q_proj.lora_B.default.weight"], {"lora_b": 16})


def test_a_decay_over_no_layers_is_refused():
    with pytest.raises(UserError, match=r"train\.layer_decay = 0\.9 changes nothing here.*leave it out"):
        weights_of(trainable("llama", "prompt", tokens=2), 0.9)
