"""When states are kept, and what is said where they are not."""

from __future__ import annotations

import shutil

import pytest

from luthier.core.shards import Shard
from luthier.engine.frozen.part import frozen_part
from luthier.engine.frozen.reuse import decide
from tests.train import toy

TOP = {"name": "lora", "rank": 4, "layers": 1}


def decision(folder, tmp_path, begun=False, **training):
    job = toy.job_of(folder, toy.section(folder, **{"method": TOP, "epochs": 2, **training}))
    return decide(job, tmp_path / "activations", Shard(folder / "data" / "validation"), begun)


@pytest.mark.parametrize(("family", "words"), [("llama", "the lower 1 of 2 layers"), ("t5", "the encoder's layers")])
def test_the_states_of_all_rows_are_counted(furnished, tmp_path, family, words):
    folder = furnished(family)
    found = decision(folder, tmp_path)
    tokens = sum(int(Shard(folder / "data" / name).input_offsets[-1]) for name in ("train", "validation"))
    assert found.bytes == tokens * 32 * 4
    assert found.words == f"{words} are frozen and computed once: their states take 0 MiB of disk while this trains"


@pytest.mark.parametrize(
    ("family", "training", "why"),
    [
        ("llama", {"cache_activations": "off"}, "train.cache_activations is off"),
        ("llama", {"epochs": 1}, "no row is seen twice"),
        ("llama", {"max_steps": 2}, "no row is seen twice"),
        ("t5", {"objective": "text"}, "objective text rewrites its inputs in every epoch"),
    ],
)
def test_where_it_does_not_pay(furnished, tmp_path, family, training, why):
    folder = furnished(family, objective=training.get("objective", "sft"))
    found = decision(folder, tmp_path, **training)
    assert (found.why, found.form, found.bytes) == (why, None, 0)
    assert f"are frozen and computed in every epoch: {why}" in found.words


def test_text_of_a_decoder_only_model_is_read_as_it_stands(furnished, tmp_path):
    assert decision(furnished("gpt2", objective="text"), tmp_path, objective="text").form is not None


@pytest.mark.parametrize("family", ["gpt2", "bloom", "t5"])
def test_dropout_below_what_trains(furnished, tmp_path, family):
    found = decision(furnished(family, dropout=0.1), tmp_path)
    assert found.why == "dropout is at work below what trains"


@pytest.mark.parametrize("method", ["full", {"name": "lora"}, {"name": "prompt", "tokens": 2}])
@pytest.mark.parametrize("family", ["llama", "t5"])
def test_nothing_lies_below_what_trains_everywhere(furnished, tmp_path, family, method):
    found = decision(furnished(family), tmp_path, method=method)
    assert (found.part, found.form, found.words) == (None, None, "")


def test_states_that_half_of_the_free_disk_does_not_hold(furnished, tmp_path, monkeypatch):
    folder = furnished("llama")
    needed = decision(folder, tmp_path).bytes
    for free, kept in ((2 * needed, True), (2 * needed - 2, False)):
        monkeypatch.setattr(shutil, "disk_usage", lambda path, free=free: shutil._ntuple_diskusage(free, 0, free))
        found = decision(folder, tmp_path)
        assert (found.form is not None) == kept
    assert "half of the free disk is" in found.why
    (tmp_path / "activations").mkdir()
    assert decision(folder, tmp_path, begun=True).form is not None, "a training goes on as it began"


def test_a_training_that_began_without_goes_on_without(furnished, tmp_path):
    assert decision(furnished("llama"), tmp_path, begun=True).why == "so it was when this training began"


def test_what_trains_says_what_is_frozen(furnished):
    """One trained vector in the lower layer, in the embeddings or in the final norm leaves nothing below it."""
    folder = furnished("llama")
    trainable = toy.job_of(folder, toy.section(folder, method=TOP)).computation.trainable
    model = trainable.model
    part = frozen_part(trainable)
    assert part.modules == (model.model.layers[0],) and part.share == 0.5
    for extra in (model.model.layers[0].input_layernorm, model.model.embed_tokens, model.model.norm):
        trainable.parameters["extra"] = extra.weight
        assert frozen_part(trainable) is None
        del trainable.parameters["extra"]
