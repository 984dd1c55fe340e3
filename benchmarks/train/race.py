"""Processes that train by turns: one runs some steps while the others are stopped, so that all meet the same machine.

Processes stay alive between their turns. In every turn the first step is not counted, for it met the signal to stop
or to go on; nor are the first two of a process.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SILENCE = 600  # seconds without a step after which a process is given up
LOOK = 0.005  # seconds between two looks at a journal


@dataclass(frozen=True)
class Step:
    """A step of a process: seconds, tokens, and the loss before its update."""

    number: int
    seconds: float
    tokens: int
    loss: float


def per_step(lines: Sequence[Mapping[str, Any]]) -> list[Step]:
    """Lines as a peer writes them."""
    return [Step(line["step"], line["seconds"], line["tokens"], line["loss"]) for line in lines]


def cumulative(lines: Sequence[Mapping[str, Any]]) -> list[Step]:
    """Lines as Luthier writes them, whose seconds and tokens count from the start."""
    steps, seconds, tokens = [], 0.0, 0
    for line in (line for line in lines if "loss" in line):
        steps.append(Step(line["step"], line["seconds"] - seconds, line["tokens"] - tokens, line["loss"]))
        seconds, tokens = line["seconds"], line["tokens"]
    return steps


class Racer:
    """One side: its process, what it has written so far, and which of its steps count, turn by turn."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        journal: Path,
        log: Path,
        env: Mapping[str, str] | None = None,
        steps: Callable[[Sequence[Mapping[str, Any]]], list[Step]] = per_step,
    ) -> None:
        self.name, self._command, self._journal, self._log = name, list(command), journal, log
        self._env, self._read = {**os.environ, **(env or {})}, steps
        self.turns: list[list[int]] = []
        self.first_step = float("nan")  # seconds from the command to the beginning of the first step
        self._process: subprocess.Popen[bytes] | None = None
        self._began, self._peak = 0.0, 0

    def turn(self, counted: int) -> None:
        """Go on, or begin, until so many more steps that count are done; then stop.

        Steps of a toy may all be done before the signal comes: then there is nothing left for later turns.
        """
        before = len(self.steps())
        skipped = 1 if self._process else 2
        if self._process is None or self._process.poll() is None:
            self._go()
            self._wait(before + skipped + counted)
            self._send(signal.SIGSTOP)
            self.peak()
        own = range(before + skipped, min(before + skipped + counted, len(self.steps())))
        if own:
            self.turns.append(list(own))

    def peak(self) -> int:
        """The most bytes that the process has held since it last began to count: as of now, or of its last turn."""
        status = Path(f"/proc/{self._process.pid}/status" if self._process else "/")
        lines = status.read_text().splitlines() if status.is_file() else []
        found = [int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")]
        self._peak = max(self._peak, *found) if found else self._peak
        return self._peak

    def finish(self) -> None:
        """Go on to the end of the command."""
        self._go()
        assert self._process is not None
        if self._process.wait(SILENCE):
            raise RuntimeError(self._problem())

    def kill(self) -> None:
        """Leave the race."""
        if self._process and self._process.poll() is None:
            self._send(signal.SIGKILL)
            self._process.wait()

    def steps(self) -> list[Step]:
        """Every step that is done."""
        if not self._journal.exists():
            return []
        text = self._journal.read_text(encoding="utf-8")
        return self._read([json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")])

    def rates(self) -> list[list[float]]:
        """Tokens per second of the steps that count, turn by turn."""
        steps = self.steps()
        return [[steps[i].tokens / steps[i].seconds for i in turn] for turn in self.turns]

    def _go(self) -> None:
        if self._process:
            self._send(signal.SIGCONT)
            return
        self._began = time.monotonic()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=subprocess.STDOUT, env=self._env, start_new_session=True
            )

    def _wait(self, wanted: int) -> None:
        assert self._process is not None
        heard, size, steps = time.monotonic(), -1, self.steps()
        while True:
            found = self._journal.stat().st_size if self._journal.exists() else 0
            if found != size:
                heard, size, steps = time.monotonic(), found, self.steps()
                if steps and self.first_step != self.first_step:
                    self.first_step = heard - self._began - steps[0].seconds
                if len(steps) >= wanted:
                    return
            if self._process.poll() == 0 and steps:
                return
            if self._process.poll() is not None or time.monotonic() - heard > SILENCE:
                raise RuntimeError(self._problem())
            time.sleep(LOOK)

    def _send(self, sent: signal.Signals) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            os.killpg(self._process.pid, sent)

    def _problem(self) -> str:
        return f"{self.name} stopped too early: {' '.join(self._command)}\n{self._log.read_text()[-3000:]}"
