"""The stage from its section to its files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from luthier.core.artefacts import Artefacts
from luthier.core.errors import Refusal, UserError
from luthier.core.files import read_json
from luthier.core.shards import IGNORED
from luthier.engine.optimizers import contract
from luthier.evaluate.quick import validation_metrics
from luthier.plan import probe, stage
from luthier.plan.checks import CHECKS
from luthier.recipe.sections import PlanSection, TrainSection
from luthier.train import stage as train_stage
from tests.preflight_bugs.house import House, house, pairs, sentence

METHODS = {"full": {}, "lora": {"method": {"name": "lora", "rank": 2}}, "prompt": {"method": "prompt"}}


def plan(built: House, **changes: Any) -> tuple[dict[str, Any], Path]:
    """Run the stage; its counts and its folder."""
    recipe = built.recipe
    values = {name: getattr(recipe, name) for name in PlanSection.model_fields} | changes
    out = built.folder / "3-plan"
    out.mkdir(exist_ok=True)
    counts = stage.run(PlanSection(**values), Artefacts(built.folder, {"data": built.shards}), out)
    return counts, out


def unmasked(built: House) -> House:
    """A training shard in which everything is trained."""
    return built.rewrite(lambda example, record: replace(example, labels=example.input_ids))


def with_plan(built: House, **values: Any) -> Any:
    return built.recipe.plan.model_validate(values)


@pytest.mark.parametrize("kind", ["chat", "t5"])
def test_what_the_stage_writes(tmp_path, kind):
    built = house(tmp_path, kind, train={"variants": METHODS, "select": "rougeL"})
    counts, out = plan(built)
    assert counts == {"checks": len(CHECKS), "warnings": 0, "errors": 0}
    findings = read_json(out / "preflight.json")
    assert [(f["check"], f["status"]) for f in findings] == [(name, "ok") for name in CHECKS]
    body = read_json(out / "estimate.json")
    variants = body["variants"]
    assert list(variants) == list(METHODS)
    assert body["memory_bytes"] == max(v["memory_bytes"] for v in variants.values())
    assert body["seconds"] == pytest.approx(sum(v["seconds"] for v in variants.values()), abs=0.05)
    assert body["total"]["seconds"] == pytest.approx(body["seconds"] + body["evaluation"]["seconds"], abs=0.05)
    assert body["usd"] == pytest.approx(body["seconds"] / 3600 * 0.10, abs=1e-5)
    for name, found in variants.items():
        job = built.job(name)
        assert found["steps"] == len(job.steps)
        assert found["tokens"] == sum(int(job.lengths[rows].sum()) for _, rows in job.steps)
        assert found["memory_bytes"] > found["probe_bytes"] > found["shapes_bytes"] > 0
        assert (found["cached"], found["frozen"]) == (False, "nothing (something trains in the lowest layer)")
    width = built.job().base.model.config.hidden_size
    assert variants["prompt"]["trainable_parameters"] == 20 * width
    assert variants["full"]["trainable_parameters"] == variants["full"]["total_parameters"]


def test_a_variant_of_the_top_layers_says_that_the_rest_is_computed_once(tmp_path):
    top = {"name": "lora", "rank": 2, "layers": 1}
    variants = {"top": {"method": top}, "off": {"method": top, "cache_activations": "off"}}
    built = house(tmp_path, "chat", train={"variants": variants})
    variants = read_json(plan(built)[1] / "estimate.json")["variants"]
    assert [found["cached"] for found in variants.values()] == [True, False]
    assert "layers are frozen and computed once: their states take" in variants["top"]["frozen"]
    assert variants["off"]["frozen"].endswith("computed in every epoch: train.cache_activations is off")
    assert not (built.folder / "3-plan" / "activations").exists()


def test_the_first_rows_are_shown_with_their_trained_tokens(tmp_path):
    built = house(tmp_path, "plain")
    _, out = plan(built)
    rows = read_json(out / "shown.json")
    assert len(rows) == 2
    for row in rows:
        assert row["input"] is None
        number = int(row["row"].rsplit(" ", 1)[1])
        assert row["text"] == f"<s>{pairs()[number - 1]['prompt']}[[ {pairs()[number - 1]['completion']}</s>]]"
        assert [piece["trained"] for piece in row["segments"]] == [False, True]
    _, out = plan(house(tmp_path, "t5"))
    for row in read_json(out / "shown.json"):
        number = int(row["row"].rsplit(" ", 1)[1])
        assert row["input"] == f"{pairs()[number - 1]['prompt']}</s>"
        assert row["text"] == f"[[{pairs()[number - 1]['completion']}</s>]]"


def test_an_error_is_refused_once_it_is_written_down(tmp_path):
    built = unmasked(house(tmp_path, "plain"))
    with pytest.raises(Refusal, match=r"user-turns-trained: .*plan\.waive: \[user-turns-trained\]"):
        plan(built)
    findings = {f["check"]: f["status"] for f in read_json(tmp_path / "3-plan" / "preflight.json")}
    assert findings.pop("user-turns-trained") == "error"
    assert set(findings.values()) == {"ok"}
    assert not (tmp_path / "3-plan" / "estimate.json").exists()


def test_an_error_that_is_waived_or_only_warned_about_lets_the_plan_go_on(tmp_path):
    built = unmasked(house(tmp_path, "plain"))
    counts, out = plan(built, plan=with_plan(built, preflight="warn"))
    assert counts["errors"] == 1
    counts, out = plan(built, plan=with_plan(built, waive=["user-turns-trained"]))
    assert (counts["errors"], counts["warnings"]) == (0, 1)
    assert (out / "estimate.json").exists()


def test_an_unknown_check_cannot_be_waived(tmp_path):
    built = house(tmp_path, "plain")
    with pytest.raises(UserError, match="did you mean 'near-leak'"):
        plan(built, plan=with_plan(built, waive=["near-leaks"]))


def test_a_budget_that_does_not_hold_the_run_is_refused_with_the_estimate_there(tmp_path):
    built = house(tmp_path, "plain")
    with pytest.raises(Refusal, match=r"the budget is 0 seconds .* or raise plan\.budget"):
        plan(built, plan=with_plan(built, budget={"hours": 1e-6}))
    assert (tmp_path / "3-plan" / "estimate.json").exists()


def test_a_column_that_the_test_rows_lack_is_refused_before_training(tmp_path):
    built = house(tmp_path, "plain")
    evaluate = built.recipe.evaluate.model_copy(update={"against": ("lead",), "lead": "nowhere"})
    with pytest.raises(UserError, match=r"evaluate\.lead is 'nowhere', which .* does not have: name one of"):
        plan(built, evaluate=evaluate)


def test_no_training_rows_are_nothing_to_plan(tmp_path):
    built = house(tmp_path, "plain")
    np.save(built.shards / "train" / "input_offsets.npy", np.zeros(1, dtype=np.int64))
    with pytest.raises(UserError, match="no training rows"):
        plan(built)


def test_a_step_that_memory_cannot_hold_is_refused_before_it_is_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "available_bytes", lambda: 0)
    with pytest.raises(Refusal, match=r"does not fit .* write train\.micro_tokens: 128"):
        plan(house(tmp_path, "plain"))


def of_the_device(*arguments):
    raise torch.OutOfMemoryError("CUDA out of memory")


def of_the_machine(*arguments):
    torch.empty(2**60, dtype=torch.uint8)


@pytest.mark.parametrize("shortage", [of_the_device, of_the_machine])
def test_a_step_for_which_memory_does_not_suffice_is_refused(tmp_path, monkeypatch, shortage):
    monkeypatch.setattr(contract, "gradients", shortage)
    with pytest.raises(Refusal, match=r"does not fit .* write train\.micro_tokens: 128"):
        plan(house(tmp_path, "plain"))


def test_variants_that_learn_otherwise_are_looked_at_each(tmp_path):
    """One learns the answers, one the text as a whole; the bug is in the rows of both."""
    variants = {"answers": {}, "text": {"objective": "text"}}
    built = house(tmp_path, "plain", train={"variants": variants})
    built.rewrite(lambda example, record: replace(example, labels=np.full_like(example.labels, IGNORED)))
    with pytest.raises(Refusal, match="all-labels-masked: answers: "):
        plan(built)


def test_the_predicted_peak_is_never_under_what_training_holds_and_within_a_quarter(tmp_path):
    """A model of the quickstart's size, trained by the real stage in this process."""
    rows = [{"prompt": sentence(i, 60), "completion": sentence(i + 10**6, 20)} for i in range(120)]
    built = house(tmp_path, "t5", rows=rows, model={"base": "blank:t5"}, train={"max_steps": 6, **LARGER})
    _, out = plan(built)
    predicted = read_json(out / "estimate.json")["memory_bytes"]
    recipe = built.recipe
    section = TrainSection(
        seed=recipe.seed,
        model=recipe.model,
        data=recipe.data,
        training=recipe.train.variant("full"),
        max_new_tokens=16,
    )
    folder = tmp_path / "4-train" / "full"
    folder.mkdir(parents=True)
    train_stage.run(section, Artefacts(tmp_path, {"data": built.shards}), folder, validation_metrics)
    actual = json.loads((folder / "result.json").read_text())["peak_memory_bytes"]
    assert actual <= predicted <= 1.25 * actual


LARGER = {"tokens_per_step": 6144, "micro_tokens": 4096, "validate_every": 0.5}
