"""Skipping, resuming, sealing and stopping, on a flow of three small stages."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from luthier.core.artefacts import read_manifest
from luthier.core.errors import Interrupted, Refusal, UserError
from luthier.pipeline.flow import run_flow
from luthier.pipeline.folder import open_folder
from luthier.pipeline.stages import Stage
from luthier.recipe.sections import EvaluateSection

ALL = ["rows", "weights/full", "marks"]


def go(flow, recipe, **how):
    finished = []
    folder = open_folder(recipe)
    outcomes = run_flow(
        recipe, folder, stages=flow.stages, finish=lambda where, changed: finished.append(changed), **how
    )
    return folder, {name: outcome.status for name, outcome in outcomes.items()}, finished


def test_a_second_run_skips_everything(flow, recipe):
    folder, first, finished = go(flow, recipe())
    assert first == dict.fromkeys(ALL, "done") and finished == [True]
    again, second, finished = go(flow, recipe())
    assert again == folder
    assert second == dict.fromkeys(ALL, "skipped") and finished == [False]
    assert flow.ran == ALL


def test_counts_are_sealed_in_the_manifest(flow, recipe):
    folder, _, _ = go(flow, recipe())
    assert read_manifest(folder / "1-rows").counts == {
        "in": 3,
        "kept": 2,
        "rejected": 0,
        "removed": {"duplicates": 1},
    }


def test_a_changed_outside_file_remakes_all_that_follows(flow, recipe):
    go(flow, recipe())
    flow.outside.write_text("other rows\n")
    folder, outcomes, _ = go(flow, recipe())
    assert outcomes == dict.fromkeys(ALL, "done")
    assert (folder / "3-marks" / "marks.txt").read_text() == "other rows\n" * 2


def test_work_stops_where_content_is_the_same_again(flow, recipe):
    go(flow, recipe())
    (flow.outside.parent / "runs").rename(flow.outside.parent / "kept")
    (flow.outside.parent / "kept").rename(flow.outside.parent / "runs")
    folder = open_folder(recipe())
    (folder / "1-rows" / "manifest.json").unlink()
    assert go(flow, recipe())[1] == {"rows": "done", "weights/full": "skipped", "marks": "skipped"}


@pytest.mark.parametrize("damage", ["missing", "shortened", "unsealed"])
def test_a_damaged_folder_is_made_again(flow, recipe, damage):
    folder, _, _ = go(flow, recipe())
    broken = folder / "3-marks" / "marks.txt"
    if damage == "missing":
        broken.unlink()
    elif damage == "shortened":
        broken.write_text("some")
    else:
        (folder / "3-marks" / "manifest.json").unlink()
    assert go(flow, recipe())[1] == {"rows": "skipped", "weights/full": "skipped", "marks": "done"}
    assert broken.read_text() == "some rows\n" * 2


def test_every_variant_is_a_piece_of_work(flow, recipe):
    variants = {"slow": {"learning_rate": 1e-4}, "fast": {"learning_rate": 1e-2}}
    folder, outcomes, _ = go(flow, recipe(variants=variants))
    assert list(outcomes) == ["rows", "weights/slow", "weights/fast", "marks"]
    rates = [read_manifest(folder / "2-weights" / name).section["training"]["learning_rate"] for name in variants]
    assert rates == [1e-4, 1e-2]


def test_upto_stops_and_only_wants_the_earlier_stages(flow, recipe):
    with pytest.raises(UserError, match="1-rows is not finished"):
        go(flow, recipe(), only="marks")
    assert list(go(flow, recipe(), upto="weights")[1]) == ["rows", "weights/full"]
    folder, outcomes, _ = go(flow, recipe(), only="marks")
    assert outcomes == {"rows": "skipped", "weights/full": "skipped", "marks": "done"}
    assert (folder / "manifest.json").exists()


@pytest.mark.parametrize("error", [Interrupted("saved"), RuntimeError("a defect"), KeyboardInterrupt()])
def test_interrupted_training_finds_what_it_left(flow, recipe, error):
    flow.breaks["weights/full"] = error
    with pytest.raises(type(error)):
        go(flow, recipe())
    folder, outcomes, _ = go(flow, recipe())
    assert outcomes == {"rows": "skipped", "weights/full": "done", "marks": "done"}
    assert (folder / "2-weights/full/steps.txt").read_text() == "step\n" * 2


def test_what_was_left_of_other_work_is_not_resumed(flow, recipe):
    flow.breaks["weights/full"] = Interrupted("saved")
    with pytest.raises(Interrupted):
        go(flow, recipe())
    flow.outside.write_text("other rows\n")
    folder, _, _ = go(flow, recipe())
    assert (folder / "2-weights/full/steps.txt").read_text() == "step\n"


def test_a_refusal_ends_the_run_before_the_next_stage(flow, recipe):
    flow.breaks["rows"] = Refusal("no")
    with pytest.raises(Refusal):
        go(flow, recipe())
    assert flow.ran == ["rows"]


def test_events_and_the_runs_manifest_tell_what_happened(flow, recipe):
    folder, _, _ = go(flow, recipe())
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events] == [
        "run.started",
        *["stage.started", "stage.done"] * 3,
        "run.ended",
    ]
    assert events[-1]["status"] == "done"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["stages"] == {
        name: {"key": found.key, "digest": found.digest}
        for name, path in zip(ALL, ("1-rows", "2-weights/full", "3-marks"), strict=True)
        if (found := read_manifest(folder / path))
    }


def test_the_runs_manifest_lists_what_there_is_and_no_more(flow, recipe):
    folder, _, _ = go(flow, recipe())
    manifest = json.loads((folder / "manifest.json").read_text())
    more = {**manifest["stages"], "deploy/full/merged": {"key": "", "digest": ""}}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "stages": more}))
    assert set(go(flow, recipe())[1].values()) == {"skipped"}
    assert json.loads((folder / "manifest.json").read_text())["stages"] == manifest["stages"]


def test_a_later_stage_alone_needs_only_what_shapes_it(flow, recipe):
    """And what a refused stage after the published one leaves is shown all the same."""
    apart = Stage(4, "apart", EvaluateSection, "fake_stages.apart", ("rows",))
    flow.stages = (*flow.stages, apart)
    go(flow, recipe(), upto="rows")
    folder, outcomes, finished = go(flow, recipe(), only="apart")
    assert outcomes == {"rows": "skipped", "apart": "done"} and finished == []
    shutil.rmtree(folder / "4-apart")
    flow.breaks["apart"] = Refusal("no")
    shown = []
    with pytest.raises(Refusal):
        run_flow(recipe(), folder, stages=flow.stages, finish=lambda where, changed: shown.append(changed))
    assert shown == [True] and not (folder / "manifest.json").exists()


def test_sections_show_a_stage_its_own_part_only(flow, recipe):
    folder, _, _ = go(flow, recipe())
    section = read_manifest(Path(folder) / "1-rows").section
    assert set(section) == {"seed", "model", "data"}
