"""The numbers of a comparison, derived by hand, and the merge of LoRA against the model that it was trained in."""

from __future__ import annotations

import math

import pytest
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from luthier.deploy.contract import EXACT
from luthier.deploy.excerpts import contrast
from luthier.deploy.merged import ROUNDED
from luthier.deploy.parity import measure
from luthier.methods.lora import Lora, merge, prepare
from tests.toy_models import FAMILIES, batch, toy_model, train


def test_the_measures_of_two_positions():
    """Position 1: p = (1/4, 3/4) against q = (1/2, 1/2). Position 2: the same logits but for a constant."""
    trained = torch.tensor([[0.0, math.log(3)], [5.0, 1.0]])
    export = torch.tensor([[0.0, 0.0], [6.0, 2.0]])
    found = measure(trained, export)
    first = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert found.kl == pytest.approx(first / 2, rel=1e-6) and found.kl_largest == pytest.approx(first, rel=1e-6)
    assert found.largest == pytest.approx(math.log(3))
    assert found.scale == pytest.approx(2.0), "5 less the mean of 5 and 1"
    assert found.greedy == 0.5


def test_a_number_that_is_none_is_within_no_bound():
    found = measure(torch.zeros(1, 3), torch.tensor([[0.0, math.nan, 0.0]]))
    assert not found.largest <= EXACT.accepted(found.scale) and not found.kl <= EXACT.kl


def test_what_is_accepted():
    assert EXACT.accepted(1.0) == EXACT.accepted(25.0) == 1e-4
    assert EXACT.accepted(100.0) == pytest.approx(4e-4)
    assert ROUNDED.accepted(20.0) == 5.0


@pytest.mark.parametrize("family", FAMILIES)
def test_merged_lora_is_a_plain_model_that_computes_the_same(family, tmp_path):
    """Reloaded by plain transformers from a folder without any trace of PEFT."""
    trainable = prepare(toy_model(family), Lora(rank=4), seed=1)
    train(trainable, 1e-2, steps=5)
    inputs = batch(trainable.model)
    with torch.no_grad():
        expected = trainable.model(**inputs).logits
        merge(trainable)
        assert not any(isinstance(module, BaseTunerLayer) for module in trainable.model.modules())
        trainable.model.save_pretrained(tmp_path)
        assert not list(tmp_path.glob("adapter*"))
        auto = AutoModelForSeq2SeqLM if family == "t5" else AutoModelForCausalLM
        found = auto.from_pretrained(tmp_path)(**inputs).logits
        base = toy_model(family)(**inputs).logits
    assert (found - expected).abs().max() < 1e-4
    assert (base - expected).abs().max() > 0.1, "five steps change something"


@pytest.mark.parametrize(
    ("trained", "export", "told"),
    [
        ([1, 2], [1, 3], "trained [1, 2], export [1, 3]"),
        (list(range(40)), [*range(30), 7], "trained [28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39] from 28"),
        ("a" * 40 + "x", "a" * 40 + "y", "trained '…aaaaaaaaaaaax', export '…aaaaaaaaaaaay'"),
        ({"k": 1, "l": None}, {"k": 1, "l": {"type": "NFKC"}}, "trained l = None, export l = {'type': 'NFKC'}"),
        ({"k": 1}, {}, "trained k = 1, export k = None"),
    ],
)
def test_a_difference_is_shown_where_it_lies(trained, export, told):
    assert contrast(trained, export).startswith(told)
