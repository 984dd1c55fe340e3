"""The token loss against numbers worked out by hand, in float64."""

import math

import torch

from luthier.objectives import OBJECTIVES
from luthier.objectives.contract import Batch, Outputs
from luthier.objectives.tokens import NoOptions


def batch(labels):
    n = len(labels)
    return Batch({}, torch.arange(n), torch.tensor(labels), torch.zeros(n, dtype=torch.long), (0,), n)


def test_uniform_logits_cost_ln_v_each():
    loss = OBJECTIVES["sft"].loss(Outputs(torch.zeros(3, 8)), batch([1, 5, 7]), NoOptions()).terms["tokens"]
    assert math.isclose(loss.sum.item(), 3 * math.log(8), rel_tol=1e-6)


def test_two_words_by_hand():
    # p(right) = e^2 / (e^2 + e^0) = 0.880797; -ln of it is 0.126928
    logits = torch.tensor([[2.0, 0.0]])
    assert math.isclose(
        OBJECTIVES["sft"].loss(Outputs(logits), batch([0]), NoOptions()).terms["tokens"].sum, 0.126928, rel_tol=1e-5
    )


def test_gradient_is_probability_minus_one_at_the_label():
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 3.0]], requires_grad=True)
    OBJECTIVES["sft"].loss(Outputs(logits), batch([2, 0]), NoOptions()).terms["tokens"].sum.backward()
    expected = torch.softmax(logits.detach(), -1)
    expected[0, 2] -= 1
    expected[1, 0] -= 1
    torch.testing.assert_close(logits.grad, expected)


def test_sum_over_parts_is_the_sum_of_the_whole():
    logits = torch.randn(9, 5, generator=torch.Generator().manual_seed(0))
    labels = [0, 1, 2, 3, 4, 0, 1, 2, 3]
    loss = OBJECTIVES["sft"].loss
    whole = loss(Outputs(logits), batch(labels), NoOptions()).terms["tokens"].sum
    parts = [
        loss(Outputs(logits[i : i + 3]), batch(labels[i : i + 3]), NoOptions()).terms["tokens"].sum for i in (0, 3, 6)
    ]
    torch.testing.assert_close(sum(parts), whole)
    assert OBJECTIVES["sft"].counts(batch(labels)) == {"tokens": 9}
