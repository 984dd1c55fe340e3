"""Stage 5 against transformers itself, and what follows from its definition."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from luthier.core.errors import UserError
from luthier.core.files import read_json, read_jsonl
from luthier.core.shards import write_shard
from luthier.evaluate.stage import run
from tests.evaluate.small import prepare, questions, texts

ALL = {"against": ["base", "few-shot", "lead"], "few_shot": 2, "metrics": ["rougeL", "loss", "perplexity"]}


def _reference(folder: Path, family: str, prompt: str, answer: str) -> tuple[float, str]:
    """Nats of the answer with its stop token, and the greedy answer, by transformers alone, a row at a time."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    given, said = tokenizer(prompt).input_ids, [*tokenizer(answer).input_ids, 1]
    if family == "t5":
        model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
        ids, labels = torch.tensor([given]), torch.tensor([said])
        loss = model(input_ids=ids, labels=labels).loss.detach()
        out = model.generate(ids, max_new_tokens=6, do_sample=False, num_beams=1)[0][1:]
    else:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        ids = torch.tensor([given])
        labels = torch.tensor([[-100] * len(given) + said])
        loss = model(input_ids=torch.tensor([given + said]), labels=labels).loss.detach()
        out = model.generate(ids, max_new_tokens=6, do_sample=False, num_beams=1)[0][len(given) :]
    return float(loss) * len(said), tokenizer.decode(out, skip_special_tokens=True).strip()


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_base_equals_transformers_and_untrained_variants_equal_the_base(family: str, tmp_path: Path) -> None:
    test, train = questions(7, 1), questions(30, 2)
    section, inputs, out = prepare(tmp_path, family, test, train, **ALL)
    counts = run(section, inputs, out)
    assert counts == {"rows": 7, "answers": 5 * 7}

    expected = [_reference(tmp_path / "base", family, row.prompt, row.completion) for row in test]
    answers = [row["answer"] for row in read_jsonl(out / "answers" / "base.jsonl")]
    assert answers == [answer for _, answer in expected]
    tokens = sum(len(row.completion.split()) + 1 for row in test)
    loss = sum(nats for nats, _ in expected) / tokens
    scores = read_json(out / "scores.json")
    assert scores["base"]["loss"]["value"] == pytest.approx(loss, rel=1e-5)
    assert scores["base"]["perplexity"]["value"] == pytest.approx(math.exp(loss), rel=1e-5)

    untrained = [c for c in read_json(out / "comparisons.json") if c["b"] in ("base", "lora")]
    assert {(c["a"], c["b"]) for c in untrained} == {("same", "base"), ("lora", "base"), ("same", "lora")}
    for comparison in untrained:  # a full copy and an adapter that starts at zero are the base itself
        assert comparison["difference"] == pytest.approx(0, abs=1e-5)
        assert comparison["p"] > 0.5 or comparison["metric"] != "rougeL"


def test_lead_is_scored_as_an_answer_and_has_no_loss(tmp_path: Path) -> None:
    section, inputs, out = prepare(tmp_path, "llama", questions(5, 1), questions(20, 2), **ALL)
    run(section, inputs, out)
    summary, scores = read_json(out / "summary.json"), read_json(out / "scores.json")
    assert set(scores["lead"]) == {"rougeL"}
    assert set(summary["absent"]["lead"]) == {"loss", "perplexity"}
    assert all(row["answer"] for row in read_jsonl(out / "answers" / "lead.jsonl"))
    pairs = {(c["a"], c["b"], c["metric"]) for c in read_json(out / "comparisons.json")}
    assert ("same", "lead", "rougeL") in pairs and ("same", "lead", "loss") not in pairs


def test_few_shot_examples_that_do_not_fit_are_counted(tmp_path: Path) -> None:
    # one example has 54 words, and 58 of the context's 64 are left of the answer's 6: room beside it for the prompts
    # of 2, 2 and 4 words, not for that of 8
    train = questions(8, 3, long=24)
    section, inputs, out = prepare(tmp_path, "llama", questions(4, 1), train, **ALL)
    run(section, inputs, out)
    assert read_json(out / "summary.json")["notes"] == ["few-shot: 4 rows leave room for 0 to 1 of 2 examples."]


def test_running_text_gives_likelihoods_and_no_answers(tmp_path: Path) -> None:
    rows = texts(6)
    options = {"metrics": ["loss", "perplexity"], "select": "loss", "against": ["base", "lead"]}
    section, inputs, out = prepare(tmp_path, "llama", rows, texts(9), **options)
    assert run(section, inputs, out) == {"rows": 6, "answers": 0}
    scores = read_json(out / "scores.json")["base"]
    assert set(scores) == {"loss", "perplexity", "bits_per_byte"}
    # llama reads no begin token here: the first word of a text has nothing before it and is not scored
    words = [row.text.split() for row in rows]
    tokens = sum(len(said) for said in words)  # all but the first, and the stop token
    size = sum(len(" ".join(said[1:]).encode()) for said in words)
    nats = scores["loss"]["value"] * tokens
    assert scores["bits_per_byte"]["value"] == pytest.approx(nats / math.log(2) / size, rel=1e-6)
    assert not list((out / "answers").glob("*"))
    assert "lead: not measured" in read_json(out / "summary.json")["notes"][0]


def test_corrupted_spans_are_drawn_alike_for_every_subject(tmp_path: Path) -> None:
    options = {"metrics": ["loss"], "select": "bits_per_byte"}
    section, inputs, out = prepare(tmp_path, "t5", texts(6), texts(9), **options)
    run(section, inputs, out)
    scores = read_json(out / "scores.json")
    assert scores["base"]["loss"]["value"] > 0
    assert scores["same"] == scores["base"]
    assert {
        c["difference"] for c in read_json(out / "comparisons.json") if c["a"] == "same" and c["b"] == "base"
    } == {0}


def test_where_text_has_no_answers_to_select_by_the_first_measured_metric_does_and_it_is_said(tmp_path: Path) -> None:
    options = {"metrics": ["rougeL", "loss"], "select": "rougeL"}
    section, inputs, out = prepare(tmp_path, "llama", texts(3), texts(3), **options)
    run(section, inputs, out)
    summary = read_json(out / "summary.json")
    assert summary["select"] == "loss" and list(summary["metrics"]) == ["loss", "bits_per_byte"]
    assert "The best is chosen by loss: running text has no answers that rougeL compares." in summary["notes"]


def test_no_test_rows_is_an_error_that_says_what_to_write(tmp_path: Path) -> None:
    section, inputs, out = prepare(tmp_path, "llama", questions(1, 1), questions(3, 2), **ALL)
    write_shard(inputs["data"] / "test", [], [], [], ["toy"])
    with pytest.raises(UserError, match=r"data\.split\.test"):
        run(section, inputs, out)
