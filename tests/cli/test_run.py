"""The verbs on a toy run: what they print, what they skip, how they leave."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import luthier as package
from luthier.core.errors import Refusal


def test_the_document_of_a_run(luthier, done):
    assert set(done) >= {"run", "out", "status", "stages", "metrics", "comparisons", "plan", "preflight", "artefacts"}
    assert done["status"] == "done" and done["out"] == f"runs/{done['run']}"
    assert [(name, stage["status"]) for name, stage in done["stages"].items()] == [
        (name, "done") for name in ("data", "model", "plan", "train", "evaluate")
    ]
    assert done["stages"]["data"]["counts"] == {"in": 40, "kept": 40, "rejected": 0, "removed": {}}
    assert set(done["metrics"]) == {"base", "full"}
    assert set(done["metrics"]["full"]["perplexity"]) == {"value", "low", "high", "n"}
    assert set(done["comparisons"][0]) >= {"a", "b", "metric", "difference", "low", "high", "p", "detectable"}
    for name, found in done["plan"].items():
        assert found["predicted"] is not None and found["actual"] is not None, name
    assert all(Path(path).exists() for path in done["artefacts"].values())
    assert {"report", "card", "data_card", "model/full"} == set(done["artefacts"])

    again = luthier("run", "recipe.yaml", "--json").document
    assert {stage["status"] for stage in again["stages"].values()} == {"skipped"}
    assert {**again, "stages": 0} == {**done, "stages": 0}
    assert luthier("resume", done["run"], "--json").document == again
    assert luthier("evaluate", done["out"], "--json").document == again


def test_people_see_the_table_the_report_and_what_comes_next(luthier, done):
    said = luthier("run", "recipe.yaml")
    assert f"{done['metrics']['full']['perplexity']['value']:.1f}" in said.out
    assert "report.html" in said.out and "luthier compare" in said.out
    assert "unchanged" in said.err and "\x1b[" not in said.out + said.err


def test_runs_and_compare(luthier, done):
    entry = luthier("runs", "--json").document["runs"][-1]
    assert (entry["id"], entry["status"], entry["best"]) == (done["run"], "done", "full")
    assert done["run"] in luthier("runs").out
    assert luthier("compare", done["run"], "--json").document["comparisons"] == done["comparisons"]
    other = luthier("run", "recipe.yaml", "data.split.test=12", "--json").document
    both = luthier("compare", done["run"], other["run"], "--json").document
    assert both["metrics"][f"{other['run']}/full"] == other["metrics"]["full"]
    assert both["notes"] == ["the runs were tested on different rows: their scores do not compare"]


def test_stages_one_by_one(luthier):
    early = luthier("evaluate", "recipe.yaml")
    assert early.code == 2 and "1-data is not finished: `luthier resume" in early.err.replace("\n", " ")
    assert list(luthier("data", "recipe.yaml", "--json").document["stages"]) == ["data"]
    checked = luthier("check", "recipe.yaml", "--json").document
    assert checked["preflight"] and "plan" not in checked["stages"] and checked["plan"] == {}
    planned = luthier("plan", "recipe.yaml", "--json").document
    assert planned["plan"]["seconds"]["predicted"] > 0 and planned["plan"]["seconds"]["actual"] is None
    trained = luthier("train", "recipe.yaml", "--json").document
    assert trained["status"] == "partial" and trained["stages"]["data"]["status"] == "skipped"
    assert luthier("evaluate", trained["run"], "--json").document["status"] == "done"


def test_a_refusal_says_no_with_what_it_found(luthier):
    said = luthier("run", "recipe.yaml", "plan.budget.usd=1e-9", "--json")
    assert said.code == 1
    assert said.document["error"]["kind"] == "refused" and said.document["status"] == "refused"
    assert said.document["preflight"] and "train" not in said.document["stages"]


def test_a_defect_leaves_its_traceback_in_a_file(luthier, workplace):
    document = luthier("data", "recipe.yaml", "--json").document
    (workplace / document["out"] / "1-data" / "manifest.json").unlink()
    (workplace / document["out"] / "manifest.json").mkdir()  # nothing of Luthier's makes a folder there
    said = luthier("run", "recipe.yaml", "--json")
    assert said.code == 3 and "the traceback is in" in said.document["error"]["message"]
    assert "Traceback" in (workplace / document["out"] / "traceback.txt").read_text()


def test_sigterm_stops_and_resume_goes_on(workplace):
    command = [sys.executable, "-m", "luthier", "run", "recipe.yaml", "train.max_steps=2000", "train.epochs=2000"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, env=os.environ) as process:
        while not list(workplace.glob("runs/*/4-train/full/metrics.jsonl")):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 130
    events = [json.loads(line) for line in next(workplace.glob("runs/*/events.jsonl")).read_text().splitlines()]
    assert events[-1]["status"] == "interrupted"
    assert list(workplace.glob("runs/*/4-train/full/checkpoints/*"))


def test_the_python_api(luthier, workplace):
    run = package.run("recipe.yaml", "train.max_steps=2")
    assert run.metrics["full"]["perplexity"]["value"] > 1 and run.best == "full"
    assert run.report.read_text(encoding="utf-8").startswith("<!")
    assert run.evaluate().outcomes["evaluate"].status == "skipped"
    assert package.open_run(run.id).metrics == run.metrics
    with pytest.raises(Refusal):
        package.open_run("recipe.yaml", "plan.budget.usd=1e-9").plan()
