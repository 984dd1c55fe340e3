"""The run folder: its name, whose it is, and the lock that keeps two processes out of it."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from luthier.core.errors import DiskError, UserError
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


def choose_folder(recipe: Recipe, out: Path | None = None) -> Path:
    """The folder of this recipe's run, there or not; one that holds anything else is refused."""
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
    elif folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise UserError(f"{folder} holds other files and no run: give --out a folder that is new or empty")
    return folder


def open_folder(recipe: Recipe, out: Path | None = None) -> Path:
    """The folder of this recipe's run, made if need be."""
    folder = choose_folder(recipe, out)
    if (folder / RECIPE).is_file():
        return folder
    with disk_errors(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileNotFoundError, FileExistsError, NotADirectoryError) as error:
            raise UserError(f"{folder} cannot be made ({error.strerror}): choose another folder with --out") from None
        save(recipe, folder / RECIPE)
    return folder


@contextmanager
def in_folder(recipe: Recipe, folder: Path) -> Iterator[None]:
    """The run's folder is there for the block; made for it, it goes again with a UserError before any work."""
    if (folder / RECIPE).is_file():
        yield
        return
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    open_folder(recipe, folder)
    try:
        yield
    except DiskError:
        raise
    except UserError:
        _take_away(folder, new)
        raise


def _take_away(folder: Path, new: Sequence[Path]) -> None:
    """Delete a run's folder that holds nothing but its opening, and of its parents the `new` ones, if now empty.

    A file of a stage that says anything keeps all of it, and so does another process that began to work there.
    """
    with suppress(UserError), locked(folder):
        stages = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
        if any(path.stat().st_size for stage in stages for path in stage.rglob("*") if path.is_file()):
            return
        for stage in stages:
            shutil.rmtree(stage)
        for name in (RECIPE, EVENTS, LOCK):
            (folder / name).unlink(missing_ok=True)
    for path in new:
        with suppress(OSError):  # it holds something else
            path.rmdir()


def settle(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe of the folder's run, written down: as given, and where that lists no exports, with the folder's."""
    if not (folder / RECIPE).is_file():
        return recipe
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
