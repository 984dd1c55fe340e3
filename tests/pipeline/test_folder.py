"""Whose a run folder is, and who may work in it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap

import pytest

from luthier.core.errors import DiskError, Refusal, UserError
from luthier.core.files import disk_errors
from luthier.pipeline.folder import in_folder, is_locked, locked, open_folder, run_id

HOLD = """
    import sys, time
    from pathlib import Path
    from luthier.pipeline.folder import locked
    with locked(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(60)
"""


@pytest.fixture(autouse=True)
def in_a_new_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LUTHIER_RUNS", raising=False)


def test_the_same_recipe_is_the_same_run_however_it_is_written(recipe):
    assert run_id(recipe(epochs=3)) == run_id(recipe(epochs="3.0")) == run_id(recipe())
    assert run_id(recipe(epochs=4)) != run_id(recipe())
    assert open_folder(recipe()) == open_folder(recipe(epochs=3))


def test_a_run_of_another_recipe_is_refused_and_untouched(recipe, tmp_path):
    folder = open_folder(recipe(), tmp_path / "mine")
    before = (folder / "recipe.yaml").read_bytes()
    with pytest.raises(UserError, match="another recipe: choose another folder with --out"):
        open_folder(recipe(epochs=9), folder)
    assert (folder / "recipe.yaml").read_bytes() == before


def test_other_files_and_a_file_are_refused(recipe, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("years of work")
    with pytest.raises(UserError, match="holds other files"):
        open_folder(recipe(), tmp_path / "thesis")
    with pytest.raises(UserError, match="is a file"):
        open_folder(recipe(), tmp_path / "thesis" / "chapter.txt")


def test_a_folder_that_cannot_be_made_or_written(recipe, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file/run cannot be made \(Not a directory\): choose another folder"):
        open_folder(recipe(), tmp_path / "file" / "run")
    with pytest.raises(UserError, match=r"may not be written \(Permission denied\)"), disk_errors(tmp_path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(tmp_path))


def test_a_folder_made_for_nothing_goes_and_what_anyone_put_into_it_stays(recipe, tmp_path):
    place = tmp_path / "deep" / "run"
    with pytest.raises(UserError, match="a typo"), in_folder(recipe(), place):
        (place / "1-data").mkdir()
        (place / "1-data" / "rejected.jsonl").touch()
        raise UserError("a typo")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UserError), in_folder(recipe(), place):
        (place / "1-data").mkdir()
        (place / "1-data" / "rejected.jsonl").write_text("a row")
        raise UserError("too many rows like this one")
    assert (place / "1-data" / "rejected.jsonl").read_text() == "a row" and (place / "recipe.yaml").is_file()


@pytest.mark.parametrize("error", [DiskError("full"), Refusal("no"), KeyboardInterrupt(), RuntimeError("a defect")])
def test_a_folder_stays_where_its_run_may_go_on(recipe, tmp_path, error):
    with pytest.raises(type(error)), in_folder(recipe(), tmp_path / "run"):
        raise error
    with pytest.raises(UserError), in_folder(recipe(), tmp_path / "run"):  # it is older than this call
        raise UserError("a typo")
    assert (tmp_path / "run" / "recipe.yaml").is_file()


def test_a_folder_in_which_another_process_works_stays(recipe, tmp_path):
    folder = tmp_path / "run"
    with pytest.raises(UserError, match="a typo"), in_folder(recipe(), folder):
        command = [sys.executable, "-c", textwrap.dedent(HOLD), str(folder)]
        holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert holder.stdout.readline() == "held\n"
        raise UserError("a typo")
    holder.kill()
    holder.communicate()
    assert (folder / "recipe.yaml").is_file()


def test_two_processes_do_not_share_a_folder_and_a_dead_one_lets_go(tmp_path):
    command = [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        assert is_locked(tmp_path)
        with pytest.raises(UserError, match=f"process {holder.pid} is working in"), locked(tmp_path):
            pass
        holder.kill()
    assert not is_locked(tmp_path)
    with locked(tmp_path):
        pass
