"""How the learning rate goes over a run, as a factor of its peak: a linear warm-up, then the schedule's curve."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from luthier.core.tables import Table
from luthier.recipe.values import Frozen, Named, Share


@dataclass(frozen=True)
class Moment:
    """A step after the warm-up: steps since it, steps from it to the end, and steps that it took."""

    since: int
    left: int
    warmup: int

    @property
    def progress(self) -> float:
        """Share of the way from the end of the warm-up to the end of the run."""
        return self.since / (self.since + self.left)


@dataclass(frozen=True)
class Schedule:
    """An entry of the table: its options, and the factor at a step after the warm-up, which is 1 at its first."""

    config: type[BaseModel]
    factor: Callable[[Moment, Any], float]


class Plain(Frozen):
    """A schedule without options."""


class Wsd(Frozen):
    """Options of warm-up, stable, decay."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    decay: Share = Field(0.2, gt=0)
    """Share of the run over which the rate falls to 0; it begins after the warm-up at the earliest."""


class Restarts(Frozen):
    """Options of the cosine with restarts."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    cycles: int = Field(3, ge=2)
    """How often the rate falls from the peak to 0."""


def cosine(progress: float) -> float:
    """Half a cosine from 1 at 0 to 0 at 1 (Loshchilov and Hutter 2017)."""
    return 0.5 * (1 + math.cos(math.pi * progress))


def wsd(at: Moment, config: Wsd) -> float:
    """1, then 1 - sqrt(x) over the last part of the run (Hu et al. 2024; the fall of Hägele et al. 2024)."""
    after, total = at.since + at.left, at.since + at.left + at.warmup
    falling = min(max(round(config.decay * total), 1), after)
    return 1 - math.sqrt(max(falling - at.left, 0) / falling)


def inverse_sqrt(at: Moment, config: Plain) -> float:
    """sqrt(w / step), with w the length of the warm-up (Vaswani et al. 2017)."""
    warmup = max(at.warmup, 1)
    return math.sqrt(warmup / (warmup + at.since))


COSINE = Schedule(Plain, lambda at, config: cosine(at.progress))
LINEAR = Schedule(Plain, lambda at, config: 1 - at.progress)
CONSTANT = Schedule(Plain, lambda at, config: 1.0)
WSD = Schedule(Wsd, wsd)
INVERSE_SQRT = Schedule(Plain, inverse_sqrt)
COSINE_RESTARTS = Schedule(Restarts, lambda at, config: cosine(at.progress * config.cycles % 1))

SCHEDULES: Table[Schedule] = Table(
    "schedule",
    {
        "cosine": "luthier.engine.schedules:COSINE",
        "linear": "luthier.engine.schedules:LINEAR",
        "constant": "luthier.engine.schedules:CONSTANT",
        "wsd": "luthier.engine.schedules:WSD",
        "inverse-sqrt": "luthier.engine.schedules:INVERSE_SQRT",
        "cosine-restarts": "luthier.engine.schedules:COSINE_RESTARTS",
    },
)


def factor(schedule: Named, step: int, total: int, warmup: float) -> float:
    """The factor at step 0 .. total-1: a linear rise over the warm-up's share, then the schedule's own curve."""
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / (rising + 1)
    entry = SCHEDULES[schedule.name]
    return entry.factor(Moment(step - rising, total - step, rising), entry.config(**schedule.options))
