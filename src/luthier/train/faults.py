"""Steps that are not as they should be: no number, or far above the ones before; their rows are named."""

from __future__ import annotations

from luthier.core.errors import UserError
from luthier.core.events import warn
from luthier.engine.job import Job
from luthier.engine.step import StepResult
from luthier.train.spikes import WINDOW, spikes
from luthier.train.state import State

SHOWN = 8  # rows of such a step that are named
MOST_SKIPPED = 1  # a second step whose loss is not a number ends the run
LESS = {"fp16": "write train.precision: bf16, whose numbers reach further, or lower train.learning_rate"}


def usable(job: Job, state: State, result: StepResult) -> bool:
    """Whether the step is to be made; why not, or what is odd about it, is said."""
    if not result.finite:
        skip(job, state)
        return False
    return not (spike(job, state, result) and job.settings.spikes == "skip")


def skip(job: Job, state: State) -> None:
    """Leave out a step whose loss or gradient is not a number; the weights before it stay as they are."""
    rows, places = rows_of(job, state)
    state.skipped.append(state.step)
    message = f"step {state.step}: the loss is not a number ({places}); the step is left out"
    if len(state.skipped) > MOST_SKIPPED:
        less = LESS.get(job.computation.precision, "lower train.learning_rate")
        raise UserError(f"{message}, for the second time: {less}, or look at these rows")
    warn("train.not_finite", message, rows=rows)


def spike(job: Job, state: State, result: StepResult) -> bool:
    """Whether the step is a spike, which is counted, and said of the first in a row; the step is remembered."""
    step = (result.loss, result.grad_norm)
    found = spikes(state.recent, step)
    state.recent = [*state.recent, list(step)][-WINDOW:]
    if not any(found):
        return False
    if state.step - 1 not in state.spikes:
        rows, places = rows_of(job, state)
        named = (("a loss", result.loss, found[0]), ("a gradient norm", result.grad_norm, found[1]))
        what = " and ".join(f"{name} of {value:.4g}" for name, value, high in named if high)
        left_out = "; the step is left out" if job.settings.spikes == "skip" else ""
        warn("train.spike", f"step {state.step}: {what} is far above the last steps' ({places}){left_out}", rows=rows)
    state.spikes.append(state.step)
    return True


def rows_of(job: Job, state: State) -> tuple[list[int], str]:
    """The rows of the step that is being made, and where the first of them were read."""
    rows = job.steps[state.step][1].tolist()
    records = job.shard.records
    return rows, ", ".join(str(records[row].origin) for row in rows[:SHOWN]) + ", ..." * (len(rows) > SHOWN)
