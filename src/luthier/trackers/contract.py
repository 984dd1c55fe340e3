"""The tracker contract: what it needs installed, how it is opened, what it is given.

A tracker is fed from `metrics.jsonl`, by a thread of its own. It says up to which step it holds each name, and gets
what lies after it: so a resumed run goes on in it without a hole and without a step twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from luthier.core.files import write_text

Scalars = tuple[int, Mapping[str, float]]  # a step, and what was measured at it by name


class Tracker(Protocol):
    """One open run of a tracker; any of its calls may raise."""

    def last(self, name: str) -> int:
        """The last step at which this name is held; -1 where it is not."""
        ...

    def write(self, points: Sequence[Scalars]) -> None:
        """Take the points, in the order of their steps."""
        ...

    def close(self, finished: bool) -> None:
        """Give back what is held: the training has finished, or was stopped and will go on."""
        ...


@dataclass(frozen=True)
class Followed:
    """The training that a tracker follows.

    `run` is the run folder, which stays open to everybody; `folder` is the variant's in stage 4, sealed when it is
    done. `settings` are the resolved settings by dotted name.
    """

    run: Path
    folder: Path
    settings: Mapping[str, Any]

    @property
    def variant(self) -> str:
        """The variant's name."""
        return self.folder.name

    @property
    def title(self) -> str:
        """What the training is called in a list of many: run and variant."""
        return f"{self.run.resolve().name}/{self.variant}"

    def identity(self, tracker: str) -> str | None:
        """The tracker's own name of this training, kept since it was first opened."""
        path = self.folder / f"{tracker}.id"
        return path.read_text(encoding="utf-8").strip() if path.is_file() else None

    def keep_identity(self, tracker: str, identity: str) -> None:
        """Keep the tracker's own name of this training, so that a resumed one finds it again."""
        write_text(self.folder / f"{tracker}.id", identity + "\n")


@dataclass(frozen=True)
class TrackerEntry:
    """An entry of the table: its options, the modules it is made of, the packages that bring them, how it is opened.

    `open(followed, config)` may take long and may raise: it runs beside the training.
    """

    config: type[BaseModel]
    modules: tuple[str, ...]
    packages: str
    open: Callable[[Followed, Any], Tracker]
