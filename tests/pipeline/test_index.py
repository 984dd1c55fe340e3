"""The index of runs points at folders and survives their loss."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from luthier.core.errors import UserError
from luthier.core.files import read_json, write_json
from luthier.pipeline import index
from luthier.pipeline.flow import run_flow
from luthier.pipeline.folder import open_folder


def run(flow, recipe, out=None):
    folder = open_folder(recipe, out)
    run_flow(recipe, folder, stages=flow.stages, finish=lambda where, changed: None)
    return folder


def test_a_run_is_listed_with_its_best_variant(flow, recipe):
    def finish(folder: Path, changed: bool) -> None:
        (folder / "5-evaluate").mkdir()
        write_json(folder / "5-evaluate" / "summary.json", {"best": "lora", "select": "rougeL"})
        write_json(folder / "5-evaluate" / "scores.json", {"lora": {"rougeL": {"value": 0.5}}})

    folder = open_folder(recipe())
    run_flow(recipe(), folder, stages=flow.stages, finish=finish)
    (entry,) = index.entries()
    assert (entry.id, entry.status, entry.best, entry.metric, entry.value) == (
        folder.name,
        "done",
        "lora",
        "rougeL",
        0.5,
    )


def test_a_finished_run_took_what_its_stages_took_however_often_it_is_called(flow, recipe):
    folder = run(flow, recipe())
    write_json(folder / "manifest.json", {**read_json(folder / "manifest.json"), "seconds": 3600.0})
    run(flow, recipe())
    assert [entry.seconds for entry in index.entries()] == [3600.0]


def test_newest_first_and_how_each_ended(flow, recipe, tmp_path):
    run(flow, recipe())
    flow.breaks["marks"] = RuntimeError("a defect")
    with pytest.raises(RuntimeError):
        run(flow, recipe(), tmp_path / "second")
    newest, oldest = index.entries()
    assert (Path(newest.folder).name, newest.status, oldest.status) == ("second", "failed", "done")


def test_a_deleted_folder_is_gone_and_a_killed_run_is_stopped(flow, recipe, tmp_path):
    shutil.rmtree(run(flow, recipe()))
    folder = open_folder(recipe(epochs=1))
    index.Indexed(recipe(epochs=1), folder).__enter__()  # as a killed process leaves it
    assert {entry.status for entry in index.entries()} == {"gone", "stopped"}


def test_a_run_is_found_by_path_and_by_id(flow, recipe, tmp_path):
    folder = run(flow, recipe(), tmp_path / "elsewhere")
    assert index.find(str(folder)) == folder
    assert index.find(index.entries()[0].id).resolve() == folder.resolve()
    with pytest.raises(UserError, match="did you mean 'test-"):
        index.find(index.entries()[0].id[:-1])


def test_a_damaged_index_does_not_stop_a_run(flow, recipe, tmp_path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "index.sqlite").write_text("not a database, and long enough to be read as one" * 20)
    assert (run(flow, recipe()) / "manifest.json").exists()
    with pytest.raises(UserError, match="delete it, the runs themselves are safe"):
        index.entries()
