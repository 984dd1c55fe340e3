"""The metric that chooses a checkpoint, on a few validation rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.chat.template import template_for
from luthier.core.errors import UserError
from luthier.engine.batches import layout_of
from luthier.engine.score import VALIDATION_ANSWERS, score
from luthier.evaluate.ask import ask, references
from luthier.evaluate.quick import validation_metrics
from luthier.methods.contract import Trainable
from luthier.metrics import METRICS
from luthier.models.load import load_base
from luthier.recipe.schema import Data, Model
from tests.evaluate.small import questions, save_base, texts


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory):
    folder: Path = save_base(tmp_path_factory.mktemp("base"), "llama")
    base = load_base(Model(base=str(folder), context=64))
    data = Data.model_validate({"sources": "toy.jsonl"})
    return Trainable(base.model, {}), base, template_for(base.tokenizer, data, False)


def test_the_metrics_are_those_of_the_answers_and_losses(loaded) -> None:
    trainable, base, template = loaded
    rows = questions(6, 1)
    found = validation_metrics(trainable, base, template, rows, ("rougeL", "loss"), 5)
    rouge = METRICS["rougeL"]
    answers = ask(trainable, base.tokenizer, template, rows, 5, base.context)
    assert found["rougeL"] == rouge.corpus(rouge.rows(answers, [references(row) for row in rows]))
    whole = score(trainable, [template.render(row) for row in rows], layout_of(base))
    assert found["loss"] == pytest.approx(whole.mean, rel=1e-6)


def test_at_most_a_hundred_rows_spread_over_the_split_are_asked(loaded) -> None:
    trainable, base, template = loaded
    few, many = questions(1, 1), questions(1, 2)
    records = [*(few * 3), *(many * (3 * VALIDATION_ANSWERS - 3))]  # three of one row, the others all alike
    spread = validation_metrics(trainable, base, template, records, ("loss",), 5)["loss"]
    chosen = [few[0], *(many * (VALIDATION_ANSWERS - 1))]
    whole = score(trainable, [template.render(row) for row in chosen], layout_of(base))
    assert spread == pytest.approx(whole.mean, rel=1e-6)


def test_running_text_has_no_answers_to_measure(loaded) -> None:
    with pytest.raises(UserError, match="choose loss"):
        validation_metrics(*loaded, texts(3), ("rougeL",), 5)
    with pytest.raises(UserError, match=r"data\.split\.validation"):
        validation_metrics(*loaded, [], ("rougeL",), 5)


def test_a_prompt_that_nearly_fills_the_context_gets_what_room_is_left(loaded) -> None:
    trainable, base, template = loaded
    rows = [*questions(2, 1), *questions(2, 2, long=54)]  # the long ones leave a few of 64 tokens
    answers = ask(trainable, base.tokenizer, template, rows, 30, base.context)
    for row, answer in zip(rows, answers, strict=True):
        assert len(template.prompt_ids(row)) + len(answer.split()) <= 64
    alone = [ask(trainable, base.tokenizer, template, [row], 30, base.context)[0] for row in rows]
    assert answers == alone
