"""Packed weights compute what the layers' own do, and leave no trace."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from luthier.generation import packed as module
from luthier.generation.packed import pack, packed
from tests.toy_models import FAMILIES, batch, toy_model


def logits(model, inputs) -> torch.Tensor:
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_logits_within_rounding_and_none_of_it_stays(family, monkeypatch):
    monkeypatch.setattr(module, "SMALL", 1)
    model = toy_model(family)
    inputs = batch(model)
    expected = logits(model, inputs)
    with packed(model):
        replaced = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and "forward" in vars(layer)]
        assert len(replaced) == sum(type(layer) is nn.Linear for layer in model.modules()) > 0
        torch.testing.assert_close(logits(model, inputs), expected, rtol=1e-4, atol=1e-4 * expected.std().item())
        assert pack(model) == []  # once is enough
    assert not any("forward" in vars(layer) for layer in model.modules())
    assert torch.equal(logits(model, inputs), expected)


@pytest.mark.parametrize("rows", [1, 2, 7, 64, 300])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_any_number_of_rows(rows, bias, precision):
    layer = nn.Linear(256, 160, bias=bias).to(precision)
    holder = toy_model("llama")
    holder.extra = layer
    states = torch.randn(rows, 1, 256, generator=torch.Generator().manual_seed(rows)).to(precision)
    with torch.no_grad():
        expected = layer(states)
        with packed(holder):
            assert "forward" in vars(layer)
            tolerance = 1e-5 if precision == torch.float32 else 1e-2
            torch.testing.assert_close(layer(states), expected, rtol=tolerance, atol=tolerance)


def test_where_memory_is_short_nothing_is_packed(monkeypatch):
    monkeypatch.setattr(module, "SMALL", 1)
    monkeypatch.setattr(module, "SHARE", 0.0)
    assert pack(toy_model("llama")) == []
