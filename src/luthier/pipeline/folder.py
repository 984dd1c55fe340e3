"""The run folder: its name, whose it is, and the lock that keeps two processes out of it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from luthier.core.errors import UserError
from luthier.core.files import disk_errors
from luthier.recipe.load import identity, load, save
from luthier.recipe.schema import Recipe

RECIPE, MANIFEST, EVENTS = "recipe.yaml", "manifest.json", "events.jsonl"
REPORT, CARD, LOCK = "report.html", "README.md", ".lock"
WORKSPACE = "LUTHIER_RUNS"


def workspace() -> Path:
    """Where runs and their index live: `LUTHIER_RUNS`, else `runs` in the current folder."""
    return Path(os.environ.get(WORKSPACE, "runs"))


def run_id(recipe: Recipe) -> str:
    """`<name>-<4 hex>`: the same recipe is the same run."""
    return f"{recipe.name}-{identity(recipe)[:4]}"


def open_folder(recipe: Recipe, out: Path | None = None) -> Path:
    """The folder of this recipe's run, made if need be; one that holds anything else is refused, not overwritten."""
    folder = out or workspace() / run_id(recipe)
    if folder.is_file():
        raise UserError(f"{folder} is a file: give --out the path of a folder")
    if (folder / RECIPE).is_file():
        if identity(load(folder / RECIPE)) != identity(recipe):
            raise UserError(
                f"{folder} holds a run of another recipe: choose another folder with --out, or change "
                f"{folder / RECIPE} and call `luthier resume {folder}`, which makes again only what "
                "depends on the change"
            )
        return folder
    if folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise UserError(f"{folder} holds other files and no run: give --out a folder that is new or empty")
    with disk_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
            raise UserError(f"{folder} cannot be made ({error.strerror}): choose another folder with --out") from None
        save(recipe, folder / RECIPE)
    return folder


def settle(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe of the folder's run, written down: as given, and where that lists no exports, with the folder's."""
    before = load(folder / RECIPE)
    if not recipe.deploy.exports:
        recipe = recipe.model_copy(update={"deploy": before.deploy})
    if recipe != before:
        save(recipe, folder / RECIPE)
    return recipe


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process. The system lets go when a process dies, however it dies."""
    with (folder / LOCK).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise UserError(
                f"process {owner} is working in {folder}: wait for it, or choose another folder with --out"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def is_locked(folder: Path) -> bool:
    """Whether a living process works in the folder."""
    try:
        with (folder / LOCK).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
