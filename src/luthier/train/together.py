"""Rank 0's side of training on several processes: it starts the others, tells them what to do, and sees them lost.

Where a launcher (torchrun) has started the processes, the others wait in `pipeline/worker.py` already.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.distributed_c10d import Store

from luthier.core.artefacts import Artefacts
from luthier.core.errors import UserError
from luthier.engine.device import pick_device
from luthier.engine.placement import PLACEMENTS
from luthier.engine.placement.join import joined, launchers_store, started
from luthier.engine.placement.world import ALONE, World
from luthier.recipe.sections import TrainSection
from luthier.train.watch import watched

WORKER = "luthier.pipeline.worker"
LOGS = "processes"  # what the other processes print, kept while they run and where one is lost
END = "end"
LOOK = 0.02  # seconds between two looks at the others
PATIENCE = 5.0  # seconds in which a process that failed is seen to end
PARENT = "LUTHIER_PARENT"  # set in processes that end with the one that started them


@dataclass(frozen=True)
class Task:
    """What all processes do next: one variant, or nothing more."""

    section: TrainSection
    inputs: Artefacts
    out: Path

    def to_json(self) -> str:
        """The task as text."""
        folders = {name: str(path.resolve()) for name, path in self.inputs.folders.items()}
        body = {"section": self.section.model_dump(mode="json"), "run": str(self.inputs.run.resolve())}
        return json.dumps({**body, "folders": folders, "out": str(self.out.resolve())})

    @classmethod
    def from_json(cls, text: str) -> Task:
        """The task that a text says."""
        body = json.loads(text)
        folders = {name: Path(path) for name, path in body["folders"].items()}
        section = TrainSection.model_validate(body["section"])
        return cls(section, Artefacts(Path(body["run"]), folders), Path(body["out"]))


@contextmanager
def world_of(task: Task) -> Iterator[World]:
    """The world that trains the task's variant, with this process as rank 0; ALONE where one device does.

    Errors: UserError where the placement does not fit this machine, and where another process is lost.
    """
    training = task.section.training
    entry = PLACEMENTS[training.placement.name]
    config = entry.config(**training.placement.options)
    size = entry.processes(config, started(), pick_device(training.device))
    if not size:
        yield ALONE
        return
    with _others(size, task.out) as (store, others):
        number = _tell(store, task.to_json())
        _gather(store, number, others)
        try:
            with joined(store, f"world/{number}", 0, size, training) as world:
                yield world
        except RuntimeError as error:
            found = _lost(store, number, size, others)
            if found is None:
                raise
            raise UserError(f"{found}; the last checkpoint stands, `luthier resume` goes on from it") from error


@contextmanager
def _others(size: int, out: Path) -> Iterator[tuple[Store, Sequence[subprocess.Popen]]]:
    """The store that all reach, and the processes beside this one where they are ours to start and to end."""
    if started():
        yield launchers_store(), ()
        return
    threads = torch.get_num_threads()
    each = max(threads // size, 1)
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    others = [_start(rank, size, store.port, each, out / LOGS) for rank in range(1, size)]
    torch.set_num_threads(each)
    try:
        with watched(others):
            yield store, others
        _tell(store, END)
        _end(others, PATIENCE)
    finally:
        torch.set_num_threads(threads)
        _end(others, 0)


def _tell(store: Store, text: str) -> int:
    """Say what is next, and return its number, from 1."""
    number = store.add("works", 1)
    store.set(f"work/{number}", text)
    return number


def dismiss() -> None:
    """Let the processes go that a launcher has started."""
    _tell(launchers_store(), END)


def _start(rank: int, size: int, port: int, threads: int, logs: Path) -> subprocess.Popen:
    """A process that waits for its task; it hears no Ctrl-C, which is rank 0's to act on, and ends with this one."""
    logs.mkdir(parents=True, exist_ok=True)
    places = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    own = {"MASTER_ADDR": "127.0.0.1", "TORCHELASTIC_USE_AGENT_STORE": "True", PARENT: str(os.getpid())}
    environment = {**os.environ, **{name: str(value) for name, value in places.items()}, **own}
    environment["OMP_NUM_THREADS"] = str(threads)
    with (logs / f"{rank}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", WORKER],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def _end(others: Sequence[subprocess.Popen], seconds: float) -> None:
    """Give processes so long to end by themselves."""
    until = time.monotonic() + seconds
    for process in others:
        try:
            process.wait(max(until - time.monotonic(), 0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _gather(store: Store, number: int, others: Sequence[subprocess.Popen]) -> None:
    """Wait until the processes started here are ready, which takes them some seconds of imports.

    Errors: UserError where one has ended instead.
    """
    while not store.check([ready(number, rank) for rank in range(1, len(others) + 1)]):
        found = _ended(others)
        if found is not None:
            raise UserError(f"{found} before training began")
        time.sleep(LOOK)


def _lost(store: Store, number: int, size: int, others: Sequence[subprocess.Popen]) -> str | None:
    """What another process said before it ended, or how it ended; None where all are there."""
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        for rank in range(1, size):
            if store.check([said(number, rank)]):
                return store.get(said(number, rank)).decode()
        found = _ended(others)
        if found is not None:
            return found
        time.sleep(LOOK)
    return None


def _ended(others: Sequence[subprocess.Popen]) -> str | None:
    """How the first of the processes that failed has ended."""
    for rank, process in enumerate(others, 1):
        if process.poll():
            return f"process {rank} of {len(others) + 1} was lost ({_how(process.returncode)})"
    return None


def ready(number: int, rank: int) -> str:
    """The key that a process sets when it is about to begin a task."""
    return f"ready/{number}/{rank}"


def said(number: int, rank: int) -> str:
    """The key under which a process leaves the sentence it fails with."""
    return f"said/{number}/{rank}"


def _how(code: int) -> str:
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit code {code}: see {LOGS}/ in the variant's folder"
