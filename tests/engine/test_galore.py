"""GaLore is AdamW in the coordinates that it chose."""

from __future__ import annotations

import pytest
import torch

from luthier.core.errors import UserError
from luthier.engine.optimizers.galore import leading
from luthier.engine.step import set_learning_rate
from tests.engine.test_optimizers import made

RATE, SCALE = 0.01, 0.5


@pytest.mark.parametrize(("shape", "rank"), [((6, 9), 3), ((9, 6), 3), ((6, 9), 5)])
def test_its_steps_are_those_of_adamw_on_the_projected_gradient(shape, rank):
    """With P of the first gradient, W = W0 + scale P X, where X starts at 0 and AdamW moves it by P'G."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(shape, dtype=torch.float64, generator=generator)
    gradients = [torch.randn(shape, dtype=torch.float64, generator=generator) for _ in range(4)]
    optimizer, (weight,) = made("galore", {"w": start.clone()}, rank=rank, scale=SCALE)
    wide = shape[0] < shape[1]
    projection = leading(gradients[0], rank)
    small = torch.zeros((rank, shape[1]) if wide else (shape[0], rank), dtype=torch.float64, requires_grad=True)
    reference = torch.optim.AdamW([small], lr=RATE, weight_decay=0.0)
    set_learning_rate(optimizer, RATE)
    for gradient in gradients:
        weight.grad, small.grad = gradient.clone(), projection.T @ gradient if wide else gradient @ projection
        optimizer.step()
        reference.step()
    moved = projection @ small if wide else small @ projection.T
    torch.testing.assert_close(weight.detach(), (start + SCALE * moved).detach(), rtol=1e-9, atol=1e-9)


def test_the_directions_are_those_that_carry_most_of_the_gradient():
    """Of diag(1, 5, 3) the two leading ones are the second and the third axis, whatever their signs."""
    found = leading(torch.diag(torch.tensor([1.0, 5.0, 3.0])), 2)
    torch.testing.assert_close(found.abs(), torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))


def test_the_directions_change_when_their_time_has_come():
    """A gradient along the first axis, then along the second: seen only from the next choice on."""
    axes = [torch.zeros(4, 5) for _ in range(2)]
    axes[0][0], axes[1][1] = 1.0, 1.0
    optimizer, (weight,) = made("galore", {"w": torch.zeros(4, 5)}, rank=1, update_every=3, weight_decay=0)
    set_learning_rate(optimizer, 1.0)
    rows = []
    for gradient in (axes[0], axes[1], axes[1], axes[1]):
        weight.grad = gradient.clone()
        optimizer.step()
        rows.append(weight.detach().abs().sum(1) > 0)
    assert [row.tolist()[:2] for row in rows] == [[True, False]] * 3 + [[True, True]]


def test_what_is_too_small_or_no_inner_matrix_gets_adamw():
    values = {"embed": torch.randn(30, 8), "w": torch.randn(8, 8), "thin": torch.randn(2, 8), "norm": torch.ones(8)}
    optimizer, parameters = made("galore", {k: v.clone() for k, v in values.items()}, rank=2)
    plain, others = made("adamw", {k: v.clone() for k, v in values.items()}, weight_decay=0)
    for one, other in zip(parameters, others, strict=True):
        one.grad = torch.randn(one.shape, generator=torch.Generator().manual_seed(3))
        other.grad = one.grad.clone()
    for each in (optimizer, plain):
        set_learning_rate(each, 0.1)
        each.step()
    same = [torch.allclose(one, other, rtol=1e-5) for one, other in zip(parameters, others, strict=True)]
    assert same == [True, False, True, True]


def test_where_nothing_is_projected_it_is_refused():
    with pytest.raises(UserError, match=r"galore of rank 8 projects nothing here.*lower rank, or write adamw"):
        made("galore", {"w": torch.randn(8, 8), "embed": torch.randn(30, 20)}, rank=8)
