"""Tables, comparisons and the choice of the best variant."""

from __future__ import annotations

import numpy as np
import pytest

from luthier.core.errors import UserError
from luthier.evaluate import scoring
from luthier.recipe.schema import Evaluate

SECTION = Evaluate(metrics=("exact_match", "loss"), select="exact_match", resamples=200)
REFERENCES = [("a",), ("b",), ("c",), ("d",)]


def _subject(name: str, answers: str, nll: float | None, tokens: int = 2) -> scoring.Measured:
    losses = None if nll is None else np.full(4, nll)
    return scoring.Measured(name, list(answers), losses, np.full(4, tokens), None, {"losses": "no model"})


def _table(*subjects: scoring.Measured) -> scoring.Table:
    return scoring.tabulate(subjects, scoring.metrics_of(SECTION, True), REFERENCES)


def test_scores_are_the_corpus_values_and_what_is_absent_says_why() -> None:
    table = _table(_subject("lead", "abxx", None), _subject("full", "abcx", 3.0))
    found = scoring.scores(table, SECTION, seed=1)
    assert found["lead"]["exact_match"]["value"] == 0.5
    assert found["full"]["exact_match"]["value"] == 0.75
    assert found["full"]["loss"]["value"] == 1.5  # 3 nats over 2 tokens
    assert table.absent == {"lead": {"loss": "no model"}}
    assert "loss" not in found["lead"]


def test_every_variant_is_compared_with_every_baseline_and_every_other_variant() -> None:
    table = _table(_subject("base", "axxx", 4.0), _subject("full", "abcx", 3.0), _subject("lora", "abxx", 3.2))
    found = scoring.comparisons(table, ["full", "lora"], ["base"], SECTION, seed=1)
    on_match = {(c["a"], c["b"]): c["difference"] for c in found if c["metric"] == "exact_match"}
    assert on_match == {("full", "base"): 0.5, ("lora", "base"): 0.25, ("full", "lora"): 0.25}
    on_loss = {(c["a"], c["b"]): c["difference"] for c in found if c["metric"] == "loss"}
    assert on_loss[("full", "base")] == pytest.approx(-0.5)  # 1.5 - 2.0


def test_losses_over_different_tokens_are_not_compared() -> None:
    table = _table(_subject("base", "axxx", 4.0), _subject("full", "abcx", 3.0, tokens=3))
    found = scoring.comparisons(table, ["full"], ["base"], SECTION, seed=1)
    assert [c["metric"] for c in found] == ["exact_match"]


def test_the_best_follows_the_metrics_direction_and_the_first_of_equals_wins() -> None:
    table = _table(_subject("a", "abxx", 3.0), _subject("b", "abxx", 2.0))
    scores = scoring.scores(table, SECTION, seed=1)
    assert scoring.best(scores, ["a", "b"], table.metrics["exact_match"]) == "a"
    assert scoring.best(scores, ["a", "b"], table.metrics["loss"]) == "b"


def test_select_must_be_measured() -> None:
    with pytest.raises(UserError, match="'bleu', which is not measured: choose one of exact_match, loss"):
        scoring.metrics_of(Evaluate(metrics=("exact_match", "loss"), select="bleu"), True)
    with pytest.raises(UserError, match="did you mean 'rougeL'"):
        scoring.metrics_of(Evaluate(metrics=("rougel",), select="rougel"), True)


def test_rows_carry_their_own_scores() -> None:
    table = _table(_subject("full", "abxd", 3.0))
    assert scoring.row_scores(table, "full") == [{"exact_match": value} for value in (1.0, 1.0, 0.0, 1.0)]
