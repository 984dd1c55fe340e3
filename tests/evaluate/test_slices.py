"""Scores by source and on general text against transformers and against what their definition says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from luthier.core.errors import UserError
from luthier.core.files import read_json
from luthier.core.records import Origin, PromptCompletion
from luthier.evaluate import scoring, slices
from luthier.evaluate.stage import run
from luthier.metrics import METRICS
from luthier.pipeline.validate import validate
from luthier.recipe.load import parse
from luthier.recipe.sections import EvaluateSection
from tests.evaluate.small import prepare, questions, texts

SOURCES = {"maths": "maths.jsonl", "words": "words.jsonl"}


def _section(**evaluate: object) -> EvaluateSection:
    variants = {"good": {"method": "full"}, "bad": {"method": "full"}}
    recipe = parse(
        {
            "name": "toy",
            "model": {"base": "builtin:t5"},
            "data": {"sources": SOURCES},
            "train": {"variants": variants},
            "evaluate": {"metrics": ["exact_match", "rougeL"], "select": "exact_match", **evaluate},
        }
    )
    return EvaluateSection(**{name: getattr(recipe, name) for name in EvaluateSection.model_fields})


def test_each_source_is_judged_by_its_own_metric_on_its_own_rows() -> None:
    section = _section(by_source={"maths": "exact_match", "words": "rougeL"})
    records = [PromptCompletion("?", "a b", Origin("words" if i % 2 else "maths", "x", i)) for i in range(40)]
    # good knows all sums and half of each word answer, the base and bad the reverse of nothing: no sum, no word
    said = {"base": ["no"] * 40, "good": ["a c" if i % 2 else "a b" for i in range(40)], "bad": ["no"] * 40}
    measured = [scoring.Measured(name, answers) for name, answers in said.items()]
    metrics = {name: METRICS[name] for name in section.evaluate.metrics}
    table = scoring.tabulate(measured, metrics, [("a b",)] * 40)
    found = slices.by_source(table, records, section)
    assert {name: (body["metric"], body["rows"]) for name, body in found.items()} == {
        "maths": ("exact_match", 20),
        "words": ("rougeL", 20),
    }
    assert {name: found["maths"]["scores"][name]["value"] for name in said} == {"base": 0, "good": 1, "bad": 0}
    assert found["words"]["scores"]["good"]["value"] == pytest.approx(0.5)  # one word of two, both ways
    against = {c["a"]: c for c in found["maths"]["comparisons"] if c["b"] == "base"}
    assert (against["good"]["difference"], against["good"]["low"]) == (1, 1)
    assert (against["bad"]["difference"], against["bad"]["low"], against["bad"]["high"]) == (0, 0, 0)


def test_general_text_costs_what_transformers_says_and_untrained_variants_forget_nothing(tmp_path: Path) -> None:
    general = texts(9)
    options = {"metrics": ["rougeL"], "select": "rougeL"}
    section, inputs, out = prepare(tmp_path, "llama", questions(5, 1), questions(9, 2), general, **options)
    run(section, inputs, out)
    found = read_json(out / "forgetting.json")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32).eval()
    nats = tokens = 0.0
    for row in general:
        ids = torch.tensor([[*tokenizer(row.text).input_ids, 1]])
        nats += model(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        tokens += ids.shape[1] - 1
    assert found["rows"] == 9
    assert found["scores"]["base"]["value"] == pytest.approx(nats / tokens, rel=1e-5)
    against_base = {c["a"]: c["difference"] for c in found["comparisons"] if c["b"] == "base"}
    assert against_base == {"same": pytest.approx(0, abs=1e-6), "lora": pytest.approx(0, abs=1e-6)}


def test_what_was_forgotten_is_the_mean_difference_per_token() -> None:
    section = _section()
    rng = np.random.default_rng(0)
    nats, tokens = rng.gamma(4, 2, 60), np.full(60, 10.0)
    measured = [
        scoring.Measured("base", general=np.column_stack([nats, tokens])),
        scoring.Measured("lead"),
        scoring.Measured("good", general=np.column_stack([nats, tokens])),
        scoring.Measured("bad", general=np.column_stack([nats + 3, tokens])),
    ]
    found = slices.forgetting(measured, section)
    assert set(found["scores"]) == {"base", "good", "bad"}
    bad = next(c for c in found["comparisons"] if (c["a"], c["b"]) == ("bad", "base"))
    assert bad["difference"] == pytest.approx(0.3) and bad["low"] == pytest.approx(0.3)


def test_a_source_without_test_rows_is_named(tmp_path: Path) -> None:
    options = {"metrics": ["rougeL"], "select": "rougeL", "by_source": {"maths": "rougeL"}}
    section, inputs, out = prepare(tmp_path, "llama", questions(5, 1), questions(9, 2), **options)
    with pytest.raises(UserError, match=r"by_source\.maths: no test row is from this source; .* toy"):
        run(section, inputs, out)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"by_source": {"math": "rougeL"}}, r"evaluate\.by_source\.math: .*did you mean 'maths'"),
        ({"by_source": {"maths": "bleu"}}, r"by_source\.maths = 'bleu' is not among evaluate\.metrics"),
        ({"against": []}, r"data\.split\.general .* add base to evaluate\.against"),
    ],
)
def test_a_recipe_that_cannot_be_judged_so_is_refused(change: dict, told: str) -> None:
    body = {
        "name": "toy",
        "model": {"base": "builtin:t5"},
        "data": {"sources": SOURCES, "split": {"general": "other.jsonl"}},
        "evaluate": {"metrics": ["rougeL"], **change},
    }
    with pytest.raises(UserError, match=told):
        validate(parse(body))
