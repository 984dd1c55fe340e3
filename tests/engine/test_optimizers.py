"""First steps of each optimiser by hand, and what every one of them promises: all moments start at zero."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from luthier.engine.optimizers import OPTIMIZERS
from luthier.engine.optimizers.contract import Weight, groups
from luthier.engine.step import set_learning_rate

ALONE = [name for name, entry in ((n, OPTIMIZERS[n]) for n in OPTIMIZERS) if entry.backward and not entry.lacking()]


def made(name: str, values: dict[str, torch.Tensor], **options):
    """The optimiser over these parameters, and the parameters; those whose name says so lie outside the layers."""
    entry = OPTIMIZERS[name]
    weights = [Weight(key, nn.Parameter(value), inner="embed" not in key) for key, value in values.items()]
    return entry.build(weights, entry.config(**options), 0), [weight.parameter for weight in weights]


def steps(name: str, gradients: list[float], rate: float, start: float = 0.0, **options) -> list[float]:
    """Where one number stands after each of these gradients."""
    optimizer, (number,) = made(name, {"v": torch.full((1,), start, dtype=torch.float64)}, **options)
    set_learning_rate(optimizer, rate)
    found = []
    for gradient in gradients:
        number.grad = torch.full((1,), gradient, dtype=torch.float64)
        optimizer.step()
        found.append(number.item())
    return found


def test_one_step_of_adamw():
    optimizer, (matrix, vector) = made(
        "adamw", {"m": torch.full((2, 2), 4.0), "v": torch.full((3,), 4.0)}, weight_decay=0.1
    )
    matrix.grad, vector.grad = torch.full((2, 2), 0.5), torch.full((3,), -2.0)
    set_learning_rate(optimizer, 0.01)
    optimizer.step()
    # m / sqrt(v) after one step, each corrected for its start at zero, is g / |g|; decay: 4 (1 - 0.01 * 0.1) = 3.996
    torch.testing.assert_close(matrix.detach(), torch.full((2, 2), 3.996 - 0.01))
    torch.testing.assert_close(vector.detach(), torch.full((3,), 4.0 + 0.01))


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_second_step_of_adam(name):
    """m = 0.5 (0.5 * 1) + 0.5 * 3 = 1.75, over 1 - 0.5^2: 2.33333; v = 0.75 (0.25) + 0.25 * 9 = 2.4375, over
    1 - 0.75^2: 5.571429; the steps are 1 and 2.33333 / sqrt(5.571429) = 0.988538."""
    found = steps(name, [1.0, 3.0], 1.0, beta1=0.5, beta2=0.75)
    assert found == pytest.approx([-1.0, -1.988538], rel=1e-6)


def test_adams_decay_is_a_part_of_the_gradient():
    """The gradient 0.5 + 0.1 * 4 = 0.9 is scaled away: the step is 0.01 whatever the decay."""
    optimizer, (matrix,) = made("adam", {"m": torch.full((1, 1), 4.0, dtype=torch.float64)}, weight_decay=0.1)
    matrix.grad = torch.full((1, 1), 0.5, dtype=torch.float64)
    set_learning_rate(optimizer, 0.01)
    optimizer.step()
    assert matrix.item() == pytest.approx(4.0 - 0.01, rel=1e-7)


def test_sgd_with_momentum():
    """Directions 1, then 0.5 * 1 + 2 = 2.5, then 0.5 * 2.5 - 1 = 0.25; looking ahead adds half of each to g."""
    assert steps("sgd", [1.0, 2.0], 0.1) == pytest.approx([-0.1, -0.3])
    assert steps("sgd", [1.0, 2.0, -1.0], 0.1, momentum=0.5) == pytest.approx([-0.1, -0.35, -0.375])
    ahead = steps("sgd", [1.0, 2.0, -1.0], 0.1, momentum=0.5, nesterov=True)
    assert ahead == pytest.approx([-0.15, -0.15 - 0.325, -0.475 + 0.0875])


def test_nesterov_without_momentum_is_refused():
    with pytest.raises(ValidationError, match=r"write momentum: 0\.9"):
        OPTIMIZERS["sgd"].config(nesterov=True)


def test_adagrad():
    """Sums of squares 1 + 8 = 9, then 9 + 16 = 25: steps of 1 / 3 and 4 / 5."""
    assert steps("adagrad", [1.0, 4.0], 1.0, initial=8.0) == pytest.approx([-1 / 3, -1 / 3 - 4 / 5])


def test_rmsprop():
    """Means of squares 0.25 * 4 = 1, then 0.75 + 0.25 * 5 ** 2 = 7: steps of 2 / 1 and 5 / sqrt 7; momentum adds."""
    assert steps("rmsprop", [2.0, 5.0], 0.1, alpha=0.75) == pytest.approx([-0.2, -0.2 - 0.5 / 7**0.5], rel=1e-6)
    found = steps("rmsprop", [2.0, 5.0], 0.1, alpha=0.75, momentum=0.5)
    assert found == pytest.approx([-0.2, -0.2 - 0.1 - 0.5 / 7**0.5], rel=1e-6)


def test_adadelta():
    """Mean of squares 0.5 * 4 = 2, eps 2: the step is sqrt(0 + 2) / sqrt(2 + 2) * 2 = sqrt 2.

    Then squares 0.5 * 2 + 0.5 * 36 = 19 and steps 0.5 * 2 = 1: sqrt(3) / sqrt(21) * 6.
    """
    found = steps("adadelta", [2.0, 6.0], 1.0, rho=0.5, eps=2.0)
    assert found == pytest.approx([-(2**0.5), -(2**0.5) - 6 / 7**0.5])


def test_lion():
    """Mixes 0.1 * 2, then 0.9 m + 0.1 g with m = 0.01 * 2 = 0.02: 0.018 - 0.1 * 0.17 > 0, then the sign turns.

    The second step goes on although its gradient points back; the third, with m = 0.0181, 0.01629 - 0.1 < 0.
    """
    assert steps("lion", [2.0, -0.17, -1.0], 0.1) == pytest.approx([-0.1, -0.2, -0.1])


def test_lions_decay_is_decoupled_and_of_matrices():
    optimizer, (matrix, vector) = made(
        "lion", {"m": torch.full((2, 2), 4.0), "v": torch.full((3,), 4.0)}, weight_decay=0.5
    )
    matrix.grad, vector.grad = torch.full((2, 2), 1e-3), torch.full((3,), -1e3)
    set_learning_rate(optimizer, 0.1)
    optimizer.step()
    torch.testing.assert_close(matrix.detach(), torch.full((2, 2), 4.0 * 0.95 - 0.1))
    torch.testing.assert_close(vector.detach(), torch.full((3,), 4.1))


def test_the_first_step_of_adafactor_on_a_vector_is_a_share_of_its_size():
    """At step 1 the second moment is g * g, so that the update is the sign of g; it is scaled by the RMS of w.

    RMS of (3, 4) is sqrt(12.5) = 3.5355; at a rate of 0.01 each number moves by 0.035355 against its gradient.
    """
    optimizer, (weight,) = made("adafactor", {"w": torch.tensor([3.0, 4.0])})
    set_learning_rate(optimizer, 0.01)
    weight.grad = torch.tensor([0.2, -5.0])
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([3.0 - 0.0353553, 4.0 + 0.0353553]))


def test_adafactor_moves_weights_of_different_size_by_the_same_share():
    optimizer, (small, large) = made("adafactor", {"s": torch.full((4, 4), 0.01), "l": torch.full((4, 4), 1.0)})
    set_learning_rate(optimizer, 0.02)
    gradient = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    small.grad, large.grad = gradient.clone(), gradient.clone()
    before = small.detach().clone(), large.detach().clone()
    optimizer.step()
    torch.testing.assert_close((small - before[0]) / 0.01, large - before[1], rtol=1e-4, atol=1e-6)


SHAPES = {"model.embed": (50, 12), "a": (12, 20), "b": (20, 12), "norm": (12,)}
OPTIONS = {"galore": {"rank": 3}, "sgd": {"momentum": 0.9}, "rmsprop": {"momentum": 0.5}}
COUNTERS = 64  # bytes: steps are counted, which no formula needs to tell


@pytest.mark.parametrize("name", ALONE)
def test_the_table_tells_how_much_state_there_will_be(name):
    options, generator = OPTIONS.get(name, {}), torch.Generator().manual_seed(0)
    values = {key: torch.randn(shape, generator=generator) for key, shape in SHAPES.items()}
    optimizer, parameters = made(name, values, **options)
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()
    entry = OPTIMIZERS[name]
    weights = [Weight(key, p, inner="embed" not in key) for key, p in zip(SHAPES, parameters, strict=True)]
    held = sum(tensor.nbytes for p in parameters for tensor in optimizer.state[p].values())
    told = entry.state(weights, entry.config(**options))
    assert told <= held <= told + COUNTERS


@pytest.mark.parametrize("name", ALONE)
def test_each_parameter_moves_by_its_own_share_of_the_learning_rate(name):
    """A rate of 1/4 for one of two equal parameters with equal gradients: it moves by a quarter."""
    entry, start = OPTIMIZERS[name], torch.randn(8, 8, generator=torch.Generator().manual_seed(1))
    weights = [Weight(str(rate), nn.Parameter(start.clone()), rate) for rate in (1.0, 0.25)]
    optimizer = entry.build(weights, entry.config(**{"rank": 3} if name == "galore" else {}), 0)
    set_learning_rate(optimizer, 0.5)
    gradient = torch.randn(8, 8, generator=torch.Generator().manual_seed(2))
    for weight in weights:
        weight.parameter.grad = gradient.clone()
    optimizer.step()
    whole, quarter = (weight.parameter.detach() - start for weight in weights)
    torch.testing.assert_close(quarter, whole / 4, rtol=1e-4, atol=1e-6)


def test_groups_hold_what_has_the_same_options_and_the_same_rate():
    weights = [Weight(str(i), nn.Parameter(torch.zeros(1)), rate) for i, rate in enumerate((1.0, 0.5, 1.0, 0.5))]
    found = groups(weights, lambda weight: {"even": int(weight.name) % 2 == 0})
    assert [(group["rate"], group["even"], len(group["params"])) for group in found] == [
        (1.0, True, 2),
        (0.5, False, 2),
    ]


def test_an_option_that_is_none_is_refused():
    with pytest.raises(ValidationError, match="momentum"):
        OPTIMIZERS["adamw"].config(momentum=0.9)
