"""The loop: next batch, forward, backward, clip, step, log, validate, checkpoint.

It knows neither the objective nor the method by name. `docs/loop.md` has a plain twin of it for readers.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from luthier.core.errors import Interrupted, UserError
from luthier.core.events import warn
from luthier.core.files import finite
from luthier.core.progress import bar
from luthier.core.records import from_json
from luthier.engine.job import Job, draw
from luthier.engine.memory import current_bytes, ran_out
from luthier.engine.schedules import factor
from luthier.engine.step import StepResult, gradients, set_learning_rate
from luthier.engine.steps import validation_steps
from luthier.train import checkpoint
from luthier.train.interrupt import StopRequest
from luthier.train.journal import Journal
from luthier.train.state import State

SHOWN = 8  # rows of such a step that are named
MOST_SKIPPED = 1  # a second step whose loss is not a number ends the run


@dataclass(frozen=True)
class Surroundings:
    """What the loop reports to: where checkpoints lie, the journal, validation, a request to stop."""

    checkpoints: Path
    journal: Journal
    validate: Callable[[], dict[str, float]]
    higher_is_better: bool
    stop: StopRequest


def train(job: Job, state: State, around: Surroundings) -> State:
    """Train from where `state` stands to the last planned step, or until patience ends."""
    settings, total = job.settings, len(job.steps)
    marks = validation_steps(total, settings.validate_every)
    if state.step == 0 and 0 in marks:
        validate(job, state, around)
    job.computation.trainable.model.train()
    saved = time.monotonic()
    with bar("training", total, "steps") as progress:
        progress.advance(state.step)
        while state.step < total and not state.out_of_patience:
            start = time.monotonic()
            result = step_gradients(job, state)
            learning_rate = settings.learning_rate * factor(settings.schedule, state.step, total, settings.warmup)
            if result.finite:
                set_learning_rate(job.optimizer, learning_rate)
                job.optimizer.step()
            else:
                skip(job, state)
            job.optimizer.zero_grad(set_to_none=True)
            state.step += 1
            state.tokens += result.tokens
            state.seconds += time.monotonic() - start
            log(job, state, result, learning_rate, around.journal)
            progress.advance(1, f"loss {result.loss:.3f}")
            if state.step in marks:
                validate(job, state, around)
            if around.stop.made or time.monotonic() - saved > settings.checkpoint_every:
                checkpoint.save(around.checkpoints, job, state)
                saved = time.monotonic()
            if around.stop.made:
                raise Interrupted(f"stopped at step {state.step} of {total}")
    checkpoint.save(around.checkpoints, job, state)
    return state


def validate(job: Job, state: State, around: Surroundings) -> None:
    """Measure on the validation rows, if there are any, keep the best weights, count how long ago the best was."""
    start = time.monotonic()
    measured = around.validate()
    if not measured:
        return
    value, metrics = measured[job.settings.select], finite(measured)
    better = state.improves(value, around.higher_is_better)
    if better:
        state.best, state.best_step, state.best_metrics, state.since_best = value, state.step, metrics, 0
        checkpoint.save_best(around.checkpoints, job)
    else:
        state.since_best += 1
        state.out_of_patience = job.settings.patience is not None and state.since_best >= job.settings.patience
    state.seconds += time.monotonic() - start
    around.journal.write(step=state.step, validation=metrics, best=better)


def step_gradients(job: Job, state: State) -> StepResult:
    """The gradients of the next step; out of memory, again with half the micro-batch and the same result."""
    while True:
        try:
            return gradients(job.computation, draw(job, state.step, state.micro_tokens), job.settings.clip)
        except RuntimeError as error:
            if not ran_out(error):
                raise
            job.optimizer.zero_grad(set_to_none=True)
            longest = int(job.lengths[job.steps[state.step][1]].max())
            if state.micro_tokens <= longest:
                raise UserError(
                    f"a row of {longest} tokens does not fit into memory: lower model.context, or take a smaller "
                    "model or a method that trains less"
                ) from error
            state.micro_tokens = max(state.micro_tokens // 2, longest)
        warn(
            "train.memory", f"out of memory: going on with micro-batches of {state.micro_tokens} tokens, same result"
        )


def skip(job: Job, state: State) -> None:
    """Leave out a step whose loss or gradient is not a number; the weights before it stay as they are."""
    rows = job.steps[state.step][1].tolist()
    state.skipped.append(state.step)
    records = job.shard.records()
    places = ", ".join(str(from_json(records[row]).origin) for row in rows[:SHOWN]) + ", ..." * (len(rows) > SHOWN)
    message = f"step {state.step}: the loss is not a number ({places}); the step is left out"
    if len(state.skipped) > MOST_SKIPPED:
        raise UserError(f"{message}, for the second time: lower train.learning_rate, or look at these rows")
    warn("train.not_finite", message, rows=rows)


def log(job: Job, state: State, result: StepResult, learning_rate: float, journal: Journal) -> None:
    """Write the step's line."""
    journal.write(
        step=state.step,
        epoch=job.steps[state.step - 1][0],
        loss=result.loss,
        learning_rate=learning_rate,
        grad_norm=result.grad_norm,
        tokens=state.tokens,
        seconds=round(state.seconds, 3),
        memory_bytes=current_bytes(),
    )
