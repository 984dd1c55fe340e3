"""A recipe over a toy model and forty rows, in a folder of its own, and the command line in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from luthier.cli.app import invoke
from tests.toy_run import RECIPE, write_model, write_rows


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy model, saved as a folder."""
    return write_model(tmp_path_factory.mktemp("toy") / "model")


def _furnish(folder: Path, model_folder: Path) -> Path:
    (folder / "model").symlink_to(model_folder)
    (folder / "recipe.yaml").write_text(RECIPE)
    write_rows(folder / "rows.jsonl")
    return folder


@pytest.fixture
def workplace(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: recipe.yaml, rows.jsonl, and model/ as a link."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LUTHIER_RUNS", raising=False)
    return _furnish(tmp_path, model_folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> tuple[Path, dict[str, Any]]:
    """A folder in which the recipe has been run once, and the document that the run printed."""
    folder = _furnish(tmp_path_factory.mktemp("finished"), model_folder)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out:
        patch.chdir(folder)
        patch.delenv("LUTHIER_RUNS", raising=False)
        assert invoke(["run", "recipe.yaml", "--json"]) == 0, out.getvalue()
    return folder, json.loads(out.getvalue())


@pytest.fixture
def done(finished: tuple[Path, dict[str, Any]], luthier: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The finished run's document; its folder is the current one."""
    monkeypatch.chdir(finished[0])
    return finished[1]


@dataclass
class Said:
    """What a command said: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        return json.loads(self.out)


@pytest.fixture
def luthier(workplace: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command line, run in this process."""

    def run(*arguments: str) -> Said:
        capsys.readouterr()
        code = invoke(list(arguments))
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run
