"""The chunked likelihood against cross-entropy of all logits, in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from luthier.objectives import likelihood
from luthier.objectives.likelihood import nll

N, D, V = 11, 6, 17


def parts(bias: bool):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    labels = torch.randint(V, (N,), generator=generator)
    return [random(N, D), random(V, D), random(V) if bias else None], labels


@pytest.mark.parametrize("weights", ["alike", "unlike"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("chunk", "multiple"), [(4, 1), (4, 4), (4, 3), (512, 32)])
def test_losses_and_gradients(monkeypatch, chunk, multiple, bias, weights):
    monkeypatch.setattr(likelihood, "CHUNK", chunk)
    monkeypatch.setattr(likelihood, "ROUND", multiple)
    (hidden, table, shift), labels = parts(bias)
    scale = torch.full((N,), 0.3, dtype=torch.float64) if weights == "alike" else torch.linspace(-1, 2, N).double()
    found = nll(hidden, table, shift, labels)
    expected = cross_entropy(torch.nn.functional.linear(hidden, table, shift), labels, reduction="none")
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    inputs = [part for part in (hidden, table, shift) if part is not None]
    ours = torch.autograd.grad((found * scale).sum(), inputs)
    theirs = torch.autograd.grad((expected * scale).sum(), inputs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_uniform_logits_cost_ln_v():
    found = nll(torch.ones(3, D), torch.zeros(V, D), None, torch.tensor([0, 5, 16]))
    torch.testing.assert_close(found, torch.full((3,), 2.833213), rtol=1e-6, atol=0)  # ln 17


def test_no_label_costs_nothing():
    hidden = torch.ones(0, D, requires_grad=True)
    nll(hidden, torch.ones(V, D), None, torch.zeros(0, dtype=torch.long)).sum().backward()
    assert hidden.grad.shape == (0, D)


def test_a_frozen_table_gets_no_gradient():
    (hidden, table, _), labels = parts(False)
    table = table.detach()
    nll(hidden, table, None, labels).sum().backward()
    assert hidden.grad is not None and table.grad is None
