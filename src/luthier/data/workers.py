"""Chunks of rows rendered by several processes, with the same result in the same order as by one.

The processes are new ones (`python -m luthier.data.workers`), never forks: a fork of a process that has used torch's
threads hangs. Starting one takes a second or two, so that none is started before that much work has been done.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from luthier.core.errors import UserError
from luthier.data.layouts import View
from luthier.data.readers import BadRow, Row
from luthier.data.taking import Kit, Taken, kit_of, take
from luthier.recipe.sections import DataSection

Chunk = tuple[Sequence[Row | BadRow], View | None]

MOST = 16  # processes; the one that reads and writes has no more to give
ALONE_SECONDS = 3.0  # of rendering in this process before others are started: about twice what starting them costs
AHEAD = 2  # chunks for each process that are on their way at once


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers:
    """Renders chunks in their order: in this process at first, in others too once there is enough to do."""

    def __init__(self, section: DataSection, kit: Kit, number: int | None = None, alone: float | None = None) -> None:
        """`number` of processes: by default as many as there are processors; `alone`: seconds before they start."""
        self._section, self._kit = section, kit
        self._number = min(cores(), MOST) if number is None else number
        self._alone = ALONE_SECONDS if alone is None else alone
        self._spent = 0.0
        self._idle: SimpleQueue[_Process] = SimpleQueue()
        self._processes: list[_Process] = []
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
        for process in self._processes:
            process.close()

    def take(self, chunks: Iterable[Chunk]) -> Iterator[tuple[Chunk, Taken]]:
        """Each chunk with what became of it."""
        pending: deque[tuple[Chunk, Future[Taken]]] = deque()
        for chunk in chunks:
            if self._pool is None and (self._number < 2 or self._spent < self._alone):
                start = time.monotonic()
                taken = take(*chunk, self._kit)
                self._spent += time.monotonic() - start
                yield chunk, taken
                continue
            pending.append((chunk, self._started().submit(self._elsewhere, chunk)))
            if len(pending) > AHEAD * self._number:
                yield _done(pending.popleft())
        while pending:
            yield _done(pending.popleft())

    def _started(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._processes = [_Process(self._section) for _ in range(self._number)]
            for process in self._processes:
                self._idle.put(process)
            self._pool = ThreadPoolExecutor(self._number, thread_name_prefix="rows")
        return self._pool

    def _elsewhere(self, chunk: Chunk) -> Taken:
        process = self._idle.get()
        try:
            return process.ask(chunk)
        finally:
            self._idle.put(process)


def _done(one: tuple[Chunk, Future[Taken]]) -> tuple[Chunk, Taken]:
    chunk, future = one
    return chunk, future.result()


class _Process:
    """One process that renders; it ends when its input does, however this process ends."""

    def __init__(self, section: DataSection) -> None:
        paths = os.pathsep.join(path for path in sys.path if path)
        environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "luthier.data.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        self._section: DataSection | None = section

    def ask(self, chunk: Chunk) -> Taken:
        """What becomes of the chunk; raises what the process raised."""
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            if self._section is not None:
                pickle.dump(self._section, self._process.stdin)
                self._section = None
            pickle.dump(chunk, self._process.stdin)
            self._process.stdin.flush()
            answer = pickle.load(self._process.stdout)
        except (EOFError, OSError):
            raise UserError(
                f"a process that renders rows has ended (exit code {self._process.wait()}): if memory ran out, close "
                "other programs and run this again"
            ) from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def kill(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()

    def close(self) -> None:
        """Wait until it has ended; nobody may be asking it any more."""
        self._process.communicate()


def main() -> None:
    """Answer chunks on standard input until it ends; anything that is printed goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process says when it is over
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    questions = sys.stdin.buffer
    kit = kit_of(pickle.load(questions))
    while True:
        try:
            rows, view = pickle.load(questions)
        except EOFError:
            return
        answer: Any
        try:
            answer = take(rows, view, kit)
        except Exception as error:
            answer = error
        pickle.dump(answer, answers, protocol=pickle.HIGHEST_PROTOCOL)
        answers.flush()


if __name__ == "__main__":
    main()
