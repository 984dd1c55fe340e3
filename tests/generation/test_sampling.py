"""What a token is drawn from equals transformers' logits processors, and draws follow it."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import chisquare
from transformers import (
    LogitsProcessorList,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from luthier.core.errors import UserError
from luthier.generation.request import Sampling
from luthier.generation.sampling import Chooser, choose, distribution, penalised

SETTINGS = [
    (1.0, None, 1.0),
    (0.3, None, 1.0),
    (2.5, None, 0.9),
    (1.0, 1, 1.0),
    (0.7, 40, 1.0),
    (1.0, 5, 0.5),
    (1.0, 10_000, 0.05),
    (1.5, None, 0.999),
]


def logits(vocabulary: int, spread: float = 3.0, rows: int = 4) -> torch.Tensor:
    return spread * torch.randn(rows, vocabulary, generator=torch.Generator().manual_seed(vocabulary))


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), SETTINGS)
@pytest.mark.parametrize("vocabulary", [7, 1000, 5000])
@pytest.mark.parametrize("spread", [0.1, 3.0])  # flat: the nucleus is larger than the first candidates
def test_distributions_are_those_of_transformers(temperature, top_k, top_p, vocabulary, spread):
    found = logits(vocabulary, spread)
    warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_k is not None:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warpers.append(TopPLogitsWarper(top_p))
    expected = warpers(torch.zeros(4, 1, dtype=torch.long), found).softmax(dim=-1)
    ours = torch.stack([distribution(row, temperature, top_k, top_p) for row in found])
    differs = (ours > 0) != (expected > 0)
    # where the nucleus ends, rounding may decide about the last token, which then is a very improbable one
    assert differs.sum(dim=1).max() <= 1 and (ours + expected)[differs].sum() < 1e-3
    torch.testing.assert_close(ours, expected, atol=1e-3 if differs.any() else 1e-6, rtol=1e-4)


@pytest.mark.parametrize("penalty", [0.5, 1.3, 4.0])
def test_the_repetition_penalty_is_that_of_transformers(penalty):
    (row,) = logits(50, rows=1)
    said = [3, 7, 7, 49]
    expected = RepetitionPenaltyLogitsProcessor(penalty)(torch.tensor([said]), row[None].clone())[0]
    seen = torch.zeros(50, dtype=torch.bool)
    seen[said] = True
    assert torch.equal(penalised(row, seen, penalty), expected)


def test_a_penalty_counts_what_was_chosen_and_leaves_other_rows_alone():
    found = torch.tensor([[2.0, 1.9, 1.0], [2.0, 1.9, 1.0]])
    choosers = [Chooser(Sampling(9, repetition_penalty=3.0), [2, 2000]), Chooser(Sampling(9), [])]
    assert [choose(found, choosers) for _ in range(3)] == [[0, 0], [1, 0], [0, 0]]  # 2/3 > 1.9/3 > 1/3


def test_draws_follow_the_distribution():
    (row,) = logits(6, spread=1.0, rows=1)
    chooser = Chooser(Sampling(1, temperature=1.0, top_k=4, seed=5), [])
    drawn = torch.bincount(torch.tensor([chooser.choose(row) for _ in range(4000)]), minlength=6)
    expected = distribution(row, 1.0, 4, 1.0).double()
    kept = expected > 0
    assert drawn[~kept].sum() == 0
    assert chisquare(drawn[kept], 4000 * expected[kept] / expected[kept].sum()).pvalue > 0.001


def test_a_seed_decides_and_its_absence_does_not():
    (row,) = logits(1000, rows=1)

    def draws(seed: int | None) -> list[int]:
        chooser = Chooser(Sampling(1, temperature=2.0, seed=seed), [])
        return [chooser.choose(row) for _ in range(30)]

    assert draws(1) == draws(1) != draws(2)
    assert draws(None) != draws(None)


@pytest.mark.parametrize("temperature", [0.0, 1e-12])
def test_hardly_any_temperature_is_none(temperature):
    found = 1e4 * logits(300)
    assert (
        choose(found, [Chooser(Sampling(1, temperature=temperature), []) for _ in found]) == found.argmax(1).tolist()
    )


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"temperature": -1.0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
        ({"seed": 2**63}, "seed"),
        ({"stop": ("",)}, "stop"),
        ({"stop": ("a",) * 17}, "stop"),
    ],
)
def test_values_out_of_range_are_the_users(wrong, said):
    with pytest.raises(UserError, match=said):
        Sampling(**{"max_new_tokens": 1, **wrong})
