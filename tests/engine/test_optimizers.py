"""First steps of each optimiser by hand: all moments start at zero."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from luthier.engine.optimizers import OPTIMIZERS, AdamWConfig
from luthier.engine.step import set_learning_rate


def test_one_step_by_hand():
    matrix, vector = nn.Parameter(torch.full((2, 2), 4.0)), nn.Parameter(torch.full((3,), 4.0))
    matrix.grad, vector.grad = torch.full((2, 2), 0.5), torch.full((3,), -2.0)
    made = OPTIMIZERS["adamw"].build({"m": matrix, "v": vector}, AdamWConfig(weight_decay=0.1))
    set_learning_rate(made, 0.01)
    made.step()
    # m / sqrt(v) after one step, each corrected for its start at zero, is g / |g|; decay: 4 (1 - 0.01 * 0.1) = 3.996
    torch.testing.assert_close(matrix.detach(), torch.full((2, 2), 3.996 - 0.01))
    torch.testing.assert_close(vector.detach(), torch.full((3,), 4.0 + 0.01))


def test_the_second_step_by_hand():
    vector = nn.Parameter(torch.zeros(1))
    made = OPTIMIZERS["adamw"].build({"v": vector}, AdamWConfig(beta1=0.5, beta2=0.75))
    set_learning_rate(made, 1.0)
    for gradient in (1.0, 3.0):
        vector.grad = torch.tensor([gradient])
        made.step()
    # m = 0.5 (0.5 * 1) + 0.5 * 3 = 1.75, over 1 - 0.5^2: 2.33333; v = 0.75 (0.25) + 0.25 * 9 = 2.4375, over
    # 1 - 0.75^2: 5.571429; the steps are 1 and 2.33333 / sqrt(5.571429) = 0.988545
    assert vector.item() == pytest.approx(-1.988545, rel=1e-5)


def test_an_option_that_is_none_is_refused():
    with pytest.raises(ValidationError, match="momentum"):
        AdamWConfig(momentum=0.9)


def test_the_first_step_of_adafactor_on_a_vector_is_a_share_of_its_size():
    """At step 1 the second moment is g * g, so that the update is the sign of g; it is scaled by the RMS of w.

    RMS of (3, 4) is sqrt(12.5) = 3.5355; at a rate of 0.01 each number moves by 0.035355 against its gradient.
    """
    weight = torch.nn.Parameter(torch.tensor([3.0, 4.0]))
    entry = OPTIMIZERS["adafactor"]
    optimizer = entry.build({"w": weight}, entry.config())
    set_learning_rate(optimizer, 0.01)
    weight.grad = torch.tensor([0.2, -5.0])
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([3.0 - 0.0353553, 4.0 + 0.0353553]))


def test_adafactor_moves_weights_of_different_size_by_the_same_share():
    small, large = (torch.nn.Parameter(torch.full((4, 4), size)) for size in (0.01, 1.0))
    entry = OPTIMIZERS["adafactor"]
    optimizer = entry.build({"small": small, "large": large}, entry.config())
    set_learning_rate(optimizer, 0.02)
    gradient = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    small.grad, large.grad = gradient.clone(), gradient.clone()
    before = small.detach().clone(), large.detach().clone()
    optimizer.step()
    torch.testing.assert_close((small - before[0]) / 0.01, large - before[1], rtol=1e-4, atol=1e-6)
