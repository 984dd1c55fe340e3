"""Stage 4, one variant: from shards and a base to trained weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from luthier.core.artefacts import Artefacts
from luthier.core.errors import UserError
from luthier.core.events import emit, warn
from luthier.core.files import new_folder, read_json, write_json
from luthier.core.records import from_json
from luthier.core.shards import Shard
from luthier.engine.job import HELD_OUT, Job, build, examples
from luthier.engine.memory import peak_bytes, reset_peak
from luthier.engine.score import LOSS, score
from luthier.engine.step import trains
from luthier.engine.steps import validation_rows
from luthier.methods import METHODS
from luthier.metrics import METRICS
from luthier.recipe.sections import TrainSection
from luthier.train import checkpoint
from luthier.train.interrupt import stop_request
from luthier.train.journal import Journal
from luthier.train.loop import Surroundings, train
from luthier.train.state import State

Evaluate = Callable[..., dict[str, float]]


def run(section: TrainSection, inputs: Artefacts, out: Path, evaluate: Evaluate) -> dict[str, Any]:
    """Train one variant into `out`, from its newest checkpoint if there is one; returns its counts.

    `evaluate(trainable, base, template, records, metrics, max_new_tokens)` measures answers on the validation rows;
    it is called only when `train.select` is not the loss.
    """
    result = out / "result.json"
    if not result.exists():
        reset_peak()
        job = build(section.seed, section.model, section.data, section.training, inputs["data"])
        state = train_from_checkpoint(section, inputs, out, job, evaluate)
        finish(out, job, state, peak_bytes())
    shutil.rmtree(out / "checkpoints" / "best", ignore_errors=True)
    return {"steps": read_json(result)["steps"], "tokens": read_json(result)["tokens"]}


def train_from_checkpoint(section: TrainSection, inputs: Artefacts, out: Path, job: Job, evaluate: Evaluate) -> State:
    """Resume or begin, and train to the end."""
    checkpoints = out / "checkpoints"
    begun = checkpoints.is_dir()
    checkpoints.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(section.seed)
    state = checkpoint.resume(checkpoints, job) or State(micro_tokens=job.settings.micro_tokens)
    if state.step:
        emit("train.resumed", f"{out.name} goes on from step {state.step} of {len(job.steps)}", step=state.step)
    elif begun:
        warn("train.anew", f"{out.name} starts anew: it was stopped and left no checkpoint to go on from")
    with stop_request() as stop:
        around = Surroundings(
            checkpoints=checkpoints,
            journal=Journal(out / "metrics.jsonl", state.step),
            validate=validator(section, inputs, job, evaluate),
            higher_is_better=METRICS[section.training.select].higher_is_better,
            stop=stop,
        )
        return train(job, state, around)


def validator(
    section: TrainSection, inputs: Artefacts, job: Job, evaluate: Evaluate
) -> Callable[[], dict[str, float]]:
    """What measures the model on its validation rows: the loss, and the metric that selects; nothing without rows."""
    shard = Shard(inputs["data"] / "validation")
    rows = validation_rows(shard, section.training.on)
    drawn = examples(job, shard, rows, HELD_OUT)
    trainable, select = job.computation.trainable, section.training.select
    bodies = [] if select == LOSS else shard.records()
    records = [from_json(bodies[row]) for row in rows] if bodies else []

    def validate() -> dict[str, float]:
        if select == LOSS and not drawn:
            return {}
        metrics = {LOSS: score(trainable, drawn, job.layout, job.settings.micro_tokens, "validating").mean}
        if select != LOSS:
            metrics |= evaluate(trainable, job.base, job.template, records, (select,), section.max_new_tokens)
        return metrics

    return validate


def finish(out: Path, job: Job, state: State, peak: int) -> None:
    """Save the best weights in the method's format and write down what happened."""
    best_step = restore_best(out / "checkpoints", job, state)
    settings, trainable = job.settings, job.computation.trainable
    method = METHODS[settings.method.name]
    with new_folder(out / "model") as folder:
        method.save(trainable, folder, method.config(**settings.method.options), job.base.name)
        job.base.tokenizer.save_pretrained(folder)
    body = {
        "variant": out.name,
        "method": settings.method.name,
        "steps": state.step,
        "planned_steps": len(job.steps),
        "best_step": best_step,
        "epochs": job.steps[state.step - 1][0] + 1,
        "tokens": state.tokens,
        "seconds": round(state.seconds, 3),
        "stopped": "patience" if state.out_of_patience else "finished",
        "skipped_steps": state.skipped,
        "micro_tokens": state.micro_tokens,
        "trainable_parameters": trains(trainable.parameters.values()),
        "total_parameters": trains(trainable.model.parameters()),
        "peak_memory_bytes": peak,
        "validation": state.best_metrics,
        "chosen": checkpoint.chosen(job),
    }
    write_json(out / "result.json", body)
    measured = [f"{name} {value:.4g}" for name, value in state.best_metrics.items() if value is not None]
    best = ", ".join(measured) or "nothing to validate on"
    emit("train.done", f"{out.name}: {state.step} steps, best at step {best_step} ({best})", **body)


def restore_best(checkpoints: Path, job: Job, state: State) -> int:
    """Put the best weights back and return their step; where nothing is validated, the last ones stay."""
    if state.best is not None:
        checkpoint.restore_weights(checkpoints / "best", job)
        return state.best_step
    if state.since_best:
        raise UserError(
            f"no validation gave a {job.settings.select} that is a number: lower train.learning_rate, or look at the "
            "validation rows"
        )
    return state.step
