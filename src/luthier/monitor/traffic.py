"""The traffic of a run: one row for each request, one for each rating, in `7-monitor/traffic.sqlite`.

A thread of its own writes, so that no answer waits for the disk. Texts are kept only when the server was told to.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from luthier.core.events import warn

FOLDER, NAME = "7-monitor", "traffic.sqlite"
TABLES = """
create table if not exists requests (
    id text primary key, time real not null, model text not null, variant text not null, weights text not null,
    kind text not null, status integer not null, code text not null, stop text not null, streamed integer not null,
    prompt_tokens integer not null, answer_tokens integer not null, answer_characters integer not null,
    seconds real not null, first_token_seconds real, key text not null, prompt text, answer text);
create index if not exists requests_time on requests (time);
create table if not exists feedback (
    id text primary key, time real not null, rating text not null, comment text, key text not null,
    run text not null, model text not null, variant text not null, weights text not null);
create table if not exists sessions (id text primary key, started real not null, seen real not null);
"""
HELD = 10_000  # records that may wait for the disk
BATCH = 256  # rows of one transaction
BEAT = 5.0  # seconds between two marks that the server is up


@dataclass(frozen=True)
class Shape:
    """The shape of one request.

    `weights` is the checksum of what answered, empty where nothing did; `stop` is stop, length, cancelled or empty;
    `code` OpenAI's word for an error; `key` the name of the API key, empty without one; times are in seconds.
    """

    id: str
    time: float
    model: str
    variant: str
    weights: str
    kind: str
    status: int
    code: str
    stop: str
    streamed: bool
    prompt_tokens: int
    answer_tokens: int
    answer_characters: int
    seconds: float
    first_token_seconds: float | None
    key: str
    prompt: str | None = None
    answer: str | None = None


@dataclass(frozen=True)
class Feedback:
    """A rating (`up` or `down`) of the answer `id`, with the lineage of that answer."""

    id: str
    time: float
    rating: str
    comment: str | None
    key: str
    run: str
    model: str
    variant: str
    weights: str


TABLE_OF = {Shape: "requests", Feedback: "feedback"}


def database(run: Path) -> Path:
    """The path of a run's traffic."""
    return run / FOLDER / NAME


@contextmanager
def opened(run: Path) -> Iterator[sqlite3.Connection]:
    """A run's traffic, its tables made if need be."""
    path = database(run)
    path.parent.mkdir(exist_ok=True)
    with closing(sqlite3.connect(path, timeout=10)) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")
        connection.executescript(TABLES)
        yield connection


def find_answer(run: Path, answer: str) -> tuple[str, str, str] | None:
    """Model, variant and weights' checksum of an answer that was given earlier."""
    if not database(run).is_file():
        return None
    with opened(run) as connection:
        found: tuple[str, str, str] | None = connection.execute(
            "select model, variant, weights from requests where id = ? and status = 200", (answer,)
        ).fetchone()
    return found


class Recorder:
    """Writes the records of one run, in the order in which they come, off the path of the requests.

    `lost(n)` is called for records that could not be kept: the queue is full, or the disk refuses.
    """

    def __init__(self, run: Path, lost: Callable[[int], None]) -> None:
        self.run = run
        self._lost = lost
        self._queue: queue.Queue[Shape | Feedback | None] = queue.Queue(HELD)
        self._session = (f"{time.time_ns():x}", time.time())
        self._warned = False
        with opened(run):  # what cannot be written is said before anything is served
            pass
        self._thread = threading.Thread(target=self._work, name="traffic", daemon=True)
        self._thread.start()

    def put(self, record: Shape | Feedback) -> None:
        """Hand over a record; returns at once."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._lost(1)

    def close(self) -> None:
        """Write what is left and stop."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        going = True
        while going:
            records, going = self._next()
            try:
                with opened(self.run) as connection, connection:
                    self._write(connection, records)
            except (sqlite3.Error, OSError) as error:
                self._lost(len(records))
                if not self._warned:
                    warn("traffic", f"{database(self.run)} cannot be written ({error}): requests go unrecorded")
                self._warned = True

    def _next(self) -> tuple[list[Shape | Feedback], bool]:
        """The records that have come, waiting at most a beat for the first, and whether more may follow."""
        records: list[Shape | Feedback] = []
        try:
            while len(records) < BATCH:
                found = self._queue.get_nowait() if records else self._queue.get(timeout=BEAT)
                if found is None:
                    return records, False
                records.append(found)
        except queue.Empty:
            pass
        return records, True

    def _write(self, connection: sqlite3.Connection, records: list[Shape | Feedback]) -> None:
        name, started = self._session
        connection.execute("insert or replace into sessions values (?, ?, ?)", (name, started, time.time()))
        for record in records:
            columns = [field.name for field in fields(record)]
            marks = ", ".join(f":{column}" for column in columns)
            connection.execute(
                f"insert or replace into {TABLE_OF[type(record)]} ({', '.join(columns)}) values ({marks})",
                asdict(record),
            )
