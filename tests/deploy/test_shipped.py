"""Every export of every shipped recipe, cut to a few rows and steps, is the model that was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import luthier
from tests.end_to_end.recipes import RECIPES, cut_dialogsum
from tests.end_to_end.test_flan_t5 import base as flan_t5  # noqa: F401  (a fixture: its architecture at toy width)

FEW = {"train": 300, "dev": 24, "test": 20}
CUT = ["train.max_steps=4", "train.tokens_per_step=1024", "train.micro_tokens=1024"]
ROUNDED = "deploy.exports=[adapter, {name: merged, precision: bf16}]"


def exports(
    recipe: str, out: Path, *overrides: str, names: tuple[str, ...] = ("adapter", "merged")
) -> dict[str, Any]:
    """The parity of the exports of a shipped recipe, trained but not evaluated, by name."""
    run = luthier.open_run(RECIPES / recipe, *overrides, *CUT, out=out).train()
    found = run.export(*names).document["exports"]
    return {name: body["parity"] for name, body in found.items() if body["status"] == "done"}


def assert_exact(found: dict[str, Any], names: set[str]) -> None:
    assert set(found) == names
    for name, parity in found.items():
        assert parity["largest_logit_difference"] <= 1e-4, name
        assert parity["kl"] <= 1e-6 and parity["greedy_agreement"] == 1.0, name
        assert parity["answers"]["equal"] == parity["answers"]["of"] and not parity["differences"], name


@pytest.mark.slow
def test_the_quickstart(tmp_path):
    cut = ["data.sources.dialogues.rows=200", "data.sources.unseen.rows=40", "plan.budget.hours=9"]
    found = exports("quickstart.yaml", tmp_path / "run", *cut)
    assert_exact(found, {"full/merged", "lora/adapter", "lora/merged", "prompt/adapter"})


@pytest.mark.slow
def test_in_bf16_it_is_as_near_as_the_docs_say(tmp_path):
    cut = ["data.sources.dialogues.rows=200", "data.sources.unseen.rows=40", "plan.budget.hours=9"]
    lora = "train.variants={lora: {method: {name: lora, rank: 16}, learning_rate: 3e-3}}"
    run = luthier.open_run(RECIPES / "quickstart.yaml", *cut, *CUT, lora, ROUNDED, out=tmp_path / "run").train()
    parity = run.export().document["exports"]["lora/merged"]["parity"]
    assert 1e-3 < parity["largest_logit_difference"] <= 0.25 * parity["logit_scale"]
    assert parity["kl"] <= 0.01 and parity["greedy_agreement"] >= 0.95


@pytest.mark.slow
@pytest.mark.data
def test_dialogsum_with_the_stories_model(data_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("LUTHIER_DATA", str(data_folder))
    found = exports("dialogsum-stories.yaml", tmp_path / "run", *cut_dialogsum(data_folder, tmp_path, FEW))
    assert_exact(found, {"full/merged", "lora/adapter", "lora/merged"})


@pytest.mark.slow
@pytest.mark.data
def test_dialogsum_with_flan_t5(flan_t5, data_folder, tmp_path, monkeypatch):  # noqa: F811
    """Two tables, more rows in them than tokens: what plain transformers must not tie or cut."""
    monkeypatch.setenv("LUTHIER_DATA", str(data_folder))
    rows = cut_dialogsum(data_folder, tmp_path, FEW)
    found = exports("dialogsum-flan-t5.yaml", tmp_path / "run", f"model.base={flan_t5}", *rows)
    assert_exact(found, {"full/merged", "lora/adapter", "lora/merged", "prompt/adapter"})


@pytest.mark.slow
def test_the_pretraining_of_the_builtin_model(tmp_path):
    cut = ["data.sources.corpus.rows=300", "data.split.validation=20", "plan.preflight=warn"]
    assert_exact(exports("builtin/t5.yaml", tmp_path / "run", *cut, names=("merged",)), {"full/merged"})
