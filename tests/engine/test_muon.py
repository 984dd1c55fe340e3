"""Muon's steps are orthogonal; what is no inner matrix is AdamW's."""

from __future__ import annotations

import pytest
import torch

from luthier.core.errors import UserError
from luthier.engine.step import set_learning_rate
from tests.engine.test_optimizers import made

RATE = 0.1


def test_a_step_of_a_matrix_is_nearly_orthogonal_and_of_the_size_of_adamws():
    """G = U S V' becomes about U V', whose numbers are about 1 / sqrt(max(m, n)), times 0.2 sqrt(max).

    The iteration brings every singular value near 1, between 0.7 and 1.2 (Jordan et al. 2024).
    """
    gradient = torch.randn(24, 16, generator=torch.Generator().manual_seed(0))
    optimizer, (matrix,) = made("muon", {"w": torch.zeros(24, 16)}, weight_decay=0)
    set_learning_rate(optimizer, RATE)
    matrix.grad = gradient.clone()
    optimizer.step()
    step = -matrix.detach() / (RATE * 0.2 * 24**0.5)
    values = torch.linalg.svdvals(step)
    assert values.min() > 0.6 and values.max() < 1.3
    u, _, v = torch.linalg.svd(gradient, full_matrices=False)
    agreement = (step * (u @ v)).sum() / (step.norm() * (u @ v).norm())
    assert agreement > 0.98


def test_the_rest_is_adamws():
    values = {"embed": torch.randn(30, 8), "w": torch.randn(8, 8), "norm": torch.ones(8)}
    optimizer, parameters = made("muon", {k: v.clone() for k, v in values.items()}, weight_decay=0.5)
    plain, others = made("adamw", {k: v.clone() for k, v in values.items()}, weight_decay=0.5)
    for _ in range(2):
        for one, other in zip(parameters, others, strict=True):
            one.grad = torch.randn(one.shape, generator=torch.Generator().manual_seed(3))
            other.grad = one.grad.clone()
        for each in (optimizer, plain):
            set_learning_rate(each, RATE)
            each.step()
    assert [torch.equal(one, other) for one, other in zip(parameters, others, strict=True)] == [True, False, True]


def test_without_an_inner_matrix_it_is_refused():
    with pytest.raises(UserError, match=r"none of these trains \(embed\): write adamw"):
        made("muon", {"embed": torch.randn(30, 8)})
