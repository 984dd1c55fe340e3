"""Full fine-tuning: tied weights are one, and the saved folder is plain transformers'."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from luthier.core.errors import UserError
from luthier.methods.full import Full, load, prepare, save
from tests.toy_models import FAMILIES, batch, toy_model, train


@pytest.mark.parametrize("family", FAMILIES)
def test_tied_weights_train_once(family):
    model = toy_model(family)
    trainable = prepare(model, Full(), seed=0)
    assert len({p.data_ptr() for p in trainable.parameters.values()}) == len(trainable.parameters)
    assert sum(p.numel() for p in trainable.parameters.values()) == model.num_parameters()


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_transformers_loads_the_folder_to_the_last_bit(family, tmp_path):
    trainable = prepare(toy_model(family), Full(), seed=0)
    train(trainable, 1e-3, steps=2)
    save(trainable, tmp_path, Full(), "the/base")
    kind = AutoModelForSeq2SeqLM if family == "t5" else AutoModelForCausalLM
    model = kind.from_pretrained(tmp_path).eval()
    inputs = batch(model)
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, trainable.model(**inputs).logits)
    assert [path.suffix for path in tmp_path.iterdir() if path.suffix not in (".json", "")] == [".safetensors"]


def test_another_architecture_is_refused(tmp_path):
    save(prepare(toy_model("llama"), Full(), seed=0), tmp_path, Full(), "base")
    with pytest.raises(UserError, match="architecture"):
        load(toy_model("gpt2"), tmp_path)


def test_pickled_weights_are_not_read(tmp_path):
    model = toy_model("llama")
    save(prepare(model, Full(), seed=0), tmp_path, Full(), "base")
    (tmp_path / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="safetensors"):
        load(toy_model("llama"), tmp_path)
