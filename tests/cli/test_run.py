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
from luthier.core.errors import Refusal, UserError
from luthier.core.files import read_json
from luthier.pipeline.headline import span


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
    assert early.code == 2 and "`luthier train RECIPE` trains its variants" in early.err.replace("\n", " ")
    assert not Path("runs").exists()
    assert list(luthier("data", "recipe.yaml", "--json").document["stages"]) == ["data"]
    early = luthier("evaluate", "recipe.yaml")
    assert early.code == 2 and "2-model is not finished: `luthier resume" in early.err.replace("\n", " ")
    checked = luthier("check", "recipe.yaml", "--json").document
    assert checked["preflight"] and "plan" not in checked["stages"] and checked["plan"] == {}
    planned = luthier("plan", "recipe.yaml", "--json").document
    assert planned["plan"]["seconds"]["predicted"] > 0 and planned["plan"]["seconds"]["actual"] is None
    trained = luthier("train", "recipe.yaml", "--json").document
    assert trained["status"] == "partial" and trained["stages"]["data"]["status"] == "skipped"
    assert luthier("evaluate", trained["run"], "--json").document["status"] == "done"


def test_a_range_of_learning_rates_is_tried_and_nothing_is_kept(luthier):
    said = luthier("plan", "recipe.yaml", "--lr-range")
    assert said.code == 0 and "●" in said.out and "train.learning_rate: " in said.out
    document = luthier("plan", "recipe.yaml", "--lr-range", "--json").document
    found = document["lr_range"]["full"]
    assert len(found["rates"]) == len(found["smoothed"]) and f"{found['suggested']:.1e}" in said.out
    assert list(document["stages"]) == ["data", "model"]
    assert not (Path(document["out"]) / "3-plan").exists()


def test_the_plan_tells_training_and_evaluation_apart(luthier, done):
    said = luthier("plan", "recipe.yaml")
    took = {name: found["actual"] for name, found in done["plan"].items()}
    assert took["evaluation_seconds"] == done["stages"]["evaluate"]["seconds"]
    shown = [" ".join(line.split()) for line in said.out.splitlines()]
    for label, name in (("training", "seconds"), ("evaluation", "evaluation_seconds")):
        predicted = span(done["plan"][name]["predicted"])
        assert f"{label} {predicted}, was {span(took[name])}" in shown
    total = read_json(Path(done["out"]) / "3-plan" / "estimate.json")["total"]["seconds"]
    assert f"; {span(total)}, " in said.err and " to train and test" in said.err


def test_without_test_rows_the_advice_leads_on(luthier, workplace):
    planned = luthier("plan", "recipe.yaml", "data.split.test=0", "--out", "untested")
    assert "next luthier train untested" in " ".join(planned.out.split())
    trained = luthier("train", "untested")
    advice = " ".join(trained.out.split()).partition("next ")[2]
    assert advice.startswith("luthier chat untested --model full; for scores, write data.split.test: 10%")
    path = workplace / "untested" / "recipe.yaml"
    path.write_text(path.read_text().replace("test: 0\n", "test: 10%\n"))
    assert luthier("resume", "untested", "--json").document["best"] == "full"


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


def test_from_python_a_run_that_could_not_begin_begins_when_its_rows_are_there(luthier, workplace):
    (workplace / "rows.jsonl").rename(workplace / "moved.jsonl")
    run = package.open_run("recipe.yaml")
    assert run.metrics == {} and run.best is None and not run.folder.exists()
    with pytest.raises(UserError, match="there is no file rows"):
        run.data()
    assert not run.folder.exists()
    (workplace / "moved.jsonl").rename(workplace / "rows.jsonl")
    assert run.data().outcomes["data"].counts["kept"] == 40
