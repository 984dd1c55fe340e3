"""Learning-rate range test (Smith 2017): short steps at a rate that rises exponentially until the loss diverges.

The loss stays where it is while the rate is too low, falls, and rises again when the rate is too high. A rate that
trains well lies about a decade below the lowest point; the steepest fall is shown beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from luthier.core.artefacts import Artefacts
from luthier.core.progress import bar
from luthier.engine.batches import collate
from luthier.engine.job import Job, build, examples
from luthier.engine.step import set_learning_rate
from luthier.engine.steps import micro_batches
from luthier.objectives.contract import Batch
from luthier.recipe.sections import PlanSection

STEPS = 100
LOWEST, HIGHEST = 1e-7, 10.0
MEMORY = 0.9  # share of the smoothed loss that stays from one step to the next
WARM = 5  # steps before the smoothed loss says anything
DIVERGED = 2.0  # times the lowest smoothed loss
FALL = 0.01  # share by which the loss must have fallen for a suggestion
BELOW = 10.0  # the suggestion lies so many times below the rate of the lowest loss


@dataclass(frozen=True)
class Found:
    """One variant: the rates tried, the loss and the smoothed loss at each, and the rates that these suggest.

    `suggested` and `steepest` are None where the loss never fell; `diverged` says whether the test ended so.
    """

    rates: list[float]
    losses: list[float]
    smoothed: list[float]
    suggested: float | None
    steepest: float | None
    diverged: bool


def run(section: PlanSection, inputs: Artefacts) -> dict[str, dict[str, Any]]:
    """Test every variant on its own batches; its weights are thrown away."""
    return {name: asdict(_test(section, name, inputs)) for name in section.train.names}


def _test(section: PlanSection, name: str, inputs: Artefacts) -> Found:
    job = build(section.seed, section.model, section.data, section.train.variant(name), inputs["data"])
    torch.manual_seed(section.seed)
    job.base.model.train()
    rates = rising(STEPS)
    losses: list[float] = []
    with bar(f"learning rates of {name}", STEPS, "steps") as progress:
        for loss in _losses(job, rates):
            losses.append(loss)
            progress.advance(1, f"loss {loss:.3f}")
            if diverged(losses):
                break
    return judge(rates[: len(losses)], losses)


def rising(steps: int) -> list[float]:
    """Rates from the lowest to the highest, each the same factor above the one before."""
    return np.geomspace(LOWEST, HIGHEST, steps).tolist()


def _losses(job: Job, rates: Sequence[float]) -> Iterator[float]:
    """The loss of each step, which is then made at its rate."""
    for place, rate in enumerate(rates):
        pending = job.rule.update(job.computation, job.optimizer, short_step(job, place), job.settings.clip)
        yield pending.result.loss
        if not pending.result.finite:
            return
        set_learning_rate(job.optimizer, rate)
        pending.apply()
        job.optimizer.zero_grad(set_to_none=True)


def short_step(job: Job, place: int) -> list[Batch]:
    """The first rows of a planned step, as many as one micro-batch holds; after the last step the first again."""
    epoch, rows = job.steps[place % len(job.steps)]
    budget = job.settings.micro_tokens
    some = rows[: max(int((np.cumsum(job.lengths[rows]) <= budget).sum()), 1)]
    groups = micro_batches(some, job.lengths, budget, job.layout.packed)
    device = job.computation.device
    return [collate(examples(job, job.shard, group, epoch), job.layout, device) for group in groups]


def smooth(losses: Sequence[float]) -> list[float]:
    """An exponential mean of the losses, corrected for its start."""
    mean, found = 0.0, []
    for count, loss in enumerate(losses, 1):
        mean = MEMORY * mean + (1 - MEMORY) * loss
        found.append(mean / (1 - MEMORY**count))
    return found


def diverged(losses: Sequence[float]) -> bool:
    """Whether the last loss is no number, or the smoothed loss has left its lowest point far behind."""
    if not math.isfinite(losses[-1]):
        return True
    smoothed = smooth(losses)[WARM:]
    return bool(smoothed) and smoothed[-1] > DIVERGED * min(smoothed)


def judge(rates: Sequence[float], losses: Sequence[float]) -> Found:
    """What the losses at these rates suggest; a last loss that is no number ends the test and is left out."""
    ended = diverged(losses)
    count = sum(math.isfinite(loss) for loss in losses)
    rates, losses = list(rates[:count]), list(losses[:count])
    smoothed = smooth(losses)
    suggested = steepest = None
    if count > WARM + 1:
        told = np.array(smoothed[WARM:])
        lowest = int(told.argmin())
        if lowest and told[lowest] < (1 - FALL) * told[0]:
            suggested = rates[WARM + lowest] / BELOW
            steepest = rates[WARM + int(np.diff(told[: lowest + 1]).argmin())]
    return Found(rates, losses, smoothed, suggested, steepest, ended)
