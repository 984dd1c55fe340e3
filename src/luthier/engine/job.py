"""A training job put together from the recipe: what the plan's probe and the training stage both run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from luthier.chat.template import Template, template_for
from luthier.core.errors import UserError
from luthier.core.files import read_json
from luthier.core.shards import Example, Shard
from luthier.engine.batches import Layout, collate, layout_of, vocabulary_of
from luthier.engine.device import pick_device, resolve_precision
from luthier.engine.optimizers import OPTIMIZERS
from luthier.engine.step import Computation
from luthier.engine.steps import micro_batches, plan_steps, row_lengths, row_weights
from luthier.methods import METHODS
from luthier.models.load import Base, load_base
from luthier.objectives import OBJECTIVES
from luthier.objectives.contract import Batch, Vocabulary
from luthier.recipe.schema import Data, Model, Training

HELD_OUT = 2**31  # the "epoch" of examples that must be drawn the same every time


@dataclass(frozen=True)
class Job:
    """One variant, ready for its first step; `steps` are the (epoch, rows) of every step planned."""

    seed: int
    settings: Training
    base: Base
    template: Template
    vocabulary: Vocabulary
    computation: Computation
    optimizer: torch.optim.Optimizer
    layout: Layout
    shard: Shard
    lengths: np.ndarray
    steps: list[tuple[int, np.ndarray]]


def build(seed: int, model: Model, data: Data, settings: Training, folder: Path) -> Job:
    """The job of one variant on the shards in `folder` (stage 1); the same seed gives the same job."""
    device = pick_device()
    torch.manual_seed(seed)
    base = load_base(model, seed, str(device))
    template = template_for(base.tokenizer, data, base.encoder_decoder)
    method = METHODS[settings.method.name]
    trainable = method.prepare(base.model, method.config(**settings.method.options), seed)
    layout = layout_of(base, trainable.prefix)
    shard = Shard(folder / "train")
    read = [shard, *([Shard(folder / "general")] if (folder / "general").is_dir() else [])]
    _check_room(base, read, len(trainable.prefix))
    lengths = row_lengths(shard, base.encoder_decoder, len(trainable.prefix))
    weights = row_weights(shard, read_json(folder / "card.json")["weights"], settings.on)
    objective = OBJECTIVES[settings.objective.name]
    optimizer = OPTIMIZERS[settings.optimizer.name]
    return Job(
        seed=seed,
        settings=settings,
        base=base,
        template=template,
        vocabulary=vocabulary_of(base, template.stop),
        computation=Computation(
            trainable=trainable,
            objective=objective,
            config=objective.config(**settings.objective.options),
            precision=resolve_precision(settings.precision, device),
            device=device,
        ),
        optimizer=optimizer.build(trainable.parameters, optimizer.config(**settings.optimizer.options)),
        layout=layout,
        shard=shard,
        lengths=lengths,
        steps=_steps(weights, lengths, settings, seed),
    )


def _check_room(base: Base, shards: Sequence[Shard], virtual: int) -> None:
    """Rows fit the model since stage 1; with virtual tokens before them they may not."""
    rows = max(int(shard.input_lengths.max(initial=0)) for shard in shards)
    if virtual and base.longest is not None and rows + virtual > base.longest:
        room = base.longest - rows
        less = (
            f"write train.method.tokens: {room} or less" if room else "leave out the longest rows with model.context"
        )
        raise UserError(
            f"{virtual} virtual tokens and a row of {rows} are together more than the {base.longest} that "
            f"{base.name} reads: {less}"
        )


def _steps(weights: np.ndarray, lengths: np.ndarray, settings: Training, seed: int) -> list[tuple[int, np.ndarray]]:
    steps = plan_steps(
        weights,
        lengths,
        seed=seed,
        epochs=settings.epochs,
        budget=settings.tokens_per_step,
        max_steps=settings.max_steps,
    )
    if not steps:
        raise UserError(f"no training rows for train.on = {list(settings.on)}: name sources that have rows")
    return steps


def examples(job: Job, shard: Shard, rows: np.ndarray, epoch: int) -> list[Example]:
    """The rows as the objective wants them; what it draws at random depends on seed, epoch and row alone."""
    rewrite, config = job.computation.objective.example, job.computation.config
    return [
        replace(
            rewrite(shard[row], config, job.vocabulary, np.random.default_rng([job.seed, epoch, row])), row=int(row)
        )
        for row in rows
    ]


def draw(job: Job, step: int, micro_tokens: int) -> list[Batch]:
    """The micro-batches of one step."""
    epoch, rows = job.steps[step]
    groups = micro_batches(rows, job.lengths, micro_tokens, job.layout.packed)
    return [collate(examples(job, job.shard, group, epoch), job.layout, job.computation.device) for group in groups]


def held_out(job: Job, shard: Shard) -> list[Example]:
    """All rows of a shard, drawn the same way every time."""
    return examples(job, shard, np.arange(len(shard)), HELD_OUT)
