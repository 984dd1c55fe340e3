"""The index of runs: one SQLite file beside the run folders. It only points; the folders hold the truth."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import TracebackType

from luthier.core.errors import Interrupted, Refusal, UserError, did_you_mean
from luthier.core.events import Stopwatch, emit, warn
from luthier.core.files import read_json
from luthier.pipeline import summary
from luthier.pipeline.folder import MANIFEST, RECIPE, is_locked, run_id, workspace
from luthier.pipeline.work import Unmade
from luthier.recipe.schema import Recipe

NAME = "index.sqlite"
TABLE = """create table if not exists runs (
    folder text primary key, id text not null, name text not null, status text not null, started text not null,
    seconds real not null, best text, metric text, value real)"""


@dataclass(frozen=True)
class Entry:
    """One run; `status` is running, done, partial, refused, interrupted, failed, stopped (killed) or gone."""

    folder: str
    id: str
    name: str
    status: str
    started: str
    seconds: float
    best: str | None = None
    metric: str | None = None
    value: float | None = None


@contextmanager
def _database() -> Iterator[sqlite3.Connection]:
    path = workspace() / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path, timeout=10)) as connection, connection:
        connection.execute(TABLE)
        yield connection


class Indexed:
    """Keep the index up to date with how the run inside the block goes, and tell the run's events how it ended."""

    def __init__(self, recipe: Recipe, folder: Path) -> None:
        started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.folder = folder
        self.entry = Entry(str(folder.resolve()), run_id(recipe), recipe.name, "running", started, 0.0)

    def __enter__(self) -> None:
        self.watch = Stopwatch()
        self.before = _entry(self.entry.folder)
        _store(self.entry)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        status = self._status(error)
        seconds = round(self.watch.seconds, 3)
        emit("run.ended", run=self.entry.id, status=status, seconds=seconds, error=str(error) if error else None)
        if isinstance(error, Unmade) and self.before:
            _store(self.before)
            return
        if status == "done":  # this call may have skipped most of the run
            seconds = read_json(self.folder / MANIFEST)["seconds"]
        _store(replace(self.entry, status=status, seconds=seconds, **summary.best(self.folder)))

    def _status(self, error: BaseException | None) -> str:
        if error is None:
            return "done" if (self.folder / MANIFEST).is_file() else "partial"
        if isinstance(error, Refusal):
            return "refused"
        return "interrupted" if isinstance(error, Interrupted | KeyboardInterrupt) else "failed"


def _entry(folder: str) -> Entry | None:
    """What the index says of a run folder, if it says anything."""
    try:
        return next(iter(_read("where folder = ?", folder)), None)
    except (sqlite3.Error, OSError):  # a damaged index: the run itself must not fail because of it
        return None


def _read(clause: str, *values: str) -> list[Entry]:
    """The entries that a clause of SQL picks, as they were written."""
    columns = ", ".join(field.name for field in fields(Entry))
    with _database() as database:
        return [Entry(*row) for row in database.execute(f"select {columns} from runs {clause}", values)]


def _store(entry: Entry) -> None:
    columns = [field.name for field in fields(Entry)]
    marks = ", ".join(f":{column}" for column in columns)
    try:
        with _database() as database:
            database.execute(f"insert or replace into runs ({', '.join(columns)}) values ({marks})", asdict(entry))
    except (sqlite3.Error, OSError) as error:
        # a run must not fail because the list of runs cannot be written
        warn("index", f"the index of runs in {workspace()} could not be written: {error}")


def forget(folder: Path) -> None:
    """Take the run of a folder that is not there any more out of the index."""
    try:
        with _database() as database:
            database.execute("delete from runs where folder = ?", (str(folder.resolve()),))
    except (sqlite3.Error, OSError):  # it could not be written either
        pass


def entries() -> list[Entry]:
    """All runs, the newest first, with what has become of them since."""
    if not (workspace() / NAME).is_file():
        return []
    try:
        found = _read("order by started desc, rowid desc")
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"{workspace() / NAME} is damaged ({error}): delete it, the runs themselves are safe"
        ) from None
    return [_as_it_is_now(entry) for entry in found]


def _as_it_is_now(entry: Entry) -> Entry:
    if not (Path(entry.folder) / RECIPE).is_file():
        return replace(entry, status="gone")
    if entry.status == "running" and not is_locked(Path(entry.folder)):
        return replace(entry, status="stopped")
    return entry


def find(reference: str) -> Path:
    """The run folder that a path or a run's id names."""
    for folder in (Path(reference), workspace() / reference):
        if (folder / RECIPE).is_file():
            return folder
    known = {entry.id: entry.folder for entry in reversed(entries()) if entry.status != "gone"}
    if reference in known:
        return Path(known[reference])
    hint = did_you_mean(reference, known) if known else "`luthier run RECIPE` makes one"
    raise UserError(f"no run at {reference}: {hint}")
