"""The way from `metrics.jsonl` to a tracker: a thread that reads the new lines and hands them on.

The training never waits for it. The journal has everything, so that a tracker that fails is opened again later and
lacks nothing.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from luthier.core.errors import masked
from luthier.core.events import warn
from luthier.recipe.values import Named
from luthier.trackers import TRACKERS
from luthier.trackers.contract import Followed, Scalars, Tracker

PAUSE = 2.0  # seconds between two looks at the journal
AGAIN = 60.0  # seconds after which a tracker that failed is tried again
PATIENCE = 30.0  # seconds that a tracker may take at the end
HASTE = 10.0  # seconds that it may take where the training was stopped and goes on later
AT_ONCE = 2**20  # bytes of the journal read at once


Ending = Callable[[int, Mapping[str, Any]], None]


@contextmanager
def following(track: Sequence[Named], followed: Followed, journal: Path) -> Iterator[Ending]:
    """Let the trackers follow the journal during the block.

    Gives the function to call, within the block, with the last step and the result of a training that has finished;
    where it is not called the training was stopped.
    """
    relays = [Relay(tracker.name, opener(tracker, followed), journal) for tracker in track]

    def end(step: int, result: Mapping[str, Any]) -> None:
        for relay in relays:
            relay.end(scalars({"step": step, "result": result}))

    try:
        yield end
    finally:
        for relay in relays:
            relay.close()


def opener(tracker: Named, followed: Followed) -> Callable[[], Tracker]:
    """What opens the tracker of this name with these options."""
    entry = TRACKERS[tracker.name]
    return partial(entry.open, followed, entry.config(**tracker.options))


class Relay:
    """One tracker of one training."""

    def __init__(self, name: str, open_tracker: Callable[[], Tracker], journal: Path) -> None:
        """Begin to follow the journal."""
        self.name = name
        self._open, self._journal = open_tracker, journal
        self._closing = threading.Event()
        self._failing = self._said = False
        self._last: Scalars | None = None
        self._thread = threading.Thread(target=self._work, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def end(self, last: Scalars) -> None:
        """The training has finished with this result; the tracker gets it when it has everything else."""
        self._last = last
        self._closing.set()

    def close(self) -> None:
        """Hand over the rest, for so long as is fair, and let go."""
        self._closing.set()
        patience = HASTE if self._last is None else PATIENCE
        self._thread.join(0 if self._failing else patience)
        if self._thread.is_alive() and not self._said:
            self._said = True  # what it says after this nobody hears
            warn("train.tracker", f"{self.name} has not taken the last lines in time: metrics.jsonl has them all")

    def _work(self) -> None:
        while not self._follow() and not self._closing.wait(AGAIN):
            pass

    def _follow(self) -> bool:
        """Open the tracker and follow to the end; False where it failed, which is said once."""
        try:
            tracker = self._open()
            self._failing = False
            self._to_the_end(tracker)
        except Exception as error:  # whatever other people's code does, it never ends a training
            self._failing = True
            self._say(masked(f"{type(error).__name__}: {error}"))
        return not self._failing

    def _say(self, problem: str) -> None:
        if not self._said:
            self._said = True
            warn(
                "train.tracker",
                f"{self.name} takes no figures now ({problem}): the training goes on, metrics.jsonl has them all",
            )

    def _to_the_end(self, tracker: Tracker) -> None:
        hand_over = HandOver(self._journal, tracker)
        while not self._closing.wait(PAUSE):
            hand_over.new_lines()
        hand_over.new_lines()
        if self._last is not None:
            hand_over.give([self._last])
        tracker.close(self._last is not None)


class HandOver:
    """Gives a tracker what it does not hold."""

    def __init__(self, journal: Path, tracker: Tracker) -> None:
        self._journal, self._tracker = journal, tracker
        self._read = 0
        self._held: dict[str, int] = {}

    def new_lines(self) -> None:
        """Every whole line of the journal that was not read yet."""
        while lines := self._next():
            self.give(lines)

    def give(self, points: Sequence[Scalars]) -> None:
        """What the tracker lacks of these points."""
        lacking = [(step, values) for step, whole in points if (values := self._lacking(step, whole))]
        if lacking:
            self._tracker.write(lacking)

    def _next(self) -> list[Scalars]:
        if not self._journal.exists():
            return []
        with self._journal.open("rb") as file:
            file.seek(self._read)
            body = file.read(AT_ONCE)
        body = body[: body.rfind(b"\n") + 1]
        self._read += len(body)
        return [scalars(json.loads(line)) for line in body.splitlines()]

    def _lacking(self, step: int, values: Mapping[str, float]) -> dict[str, float]:
        for name in values.keys() - self._held.keys():
            self._held[name] = self._tracker.last(name)
        return {name: value for name, value in values.items() if step > self._held[name]}


def scalars(line: Mapping[str, Any]) -> Scalars:
    """A line of the journal as numbers by name: `train/loss`, `validation/loss`, `result/best_step`."""
    found = {}
    for group in ("validation", "result"):
        for name, value in (line.get(group) or {}).items():
            found[f"{group}/{name}"] = value
    if not found:
        found = {f"train/{name}": value for name, value in line.items() if name != "step"}
    return line["step"], {name: float(value) for name, value in found.items() if is_number(value)}


def is_number(value: Any) -> bool:
    """Whether a tracker can draw it; null is a number that was none."""
    return isinstance(value, int | float) and not isinstance(value, bool)
