"""Keeping the states of a frozen part while a variant trains: whether it pays, where they lie, when they go."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from luthier.core.events import emit
from luthier.core.shards import Shard
from luthier.engine.frozen.kept import Kept
from luthier.engine.frozen.part import Part, frozen_part
from luthier.engine.frozen.replay import Around, computed, states_of
from luthier.engine.frozen.store import Store
from luthier.engine.frozen.trial import form_of
from luthier.engine.job import Job, examples

ACTIVATIONS = "activations"  # the folder beside the checkpoints
PAYS = 1 / 3  # share of the layers that must be frozen
DISK = 0.5  # share of the free disk that states may take
LOOKED_AT = 8  # rows of which it is looked at whether the objective rewrites them


@dataclass(frozen=True)
class Decision:
    """Whether states are kept, and why: `form` is what the `part` gives, None where nothing is kept.

    `bytes` are what the states of all rows take on disk.
    """

    why: str
    part: Part | None = None
    form: Any = None
    bytes: int = 0

    @property
    def words(self) -> str:
        """The decision in a sentence; nothing to say where nothing is frozen."""
        if self.part is None:
            return ""
        once = "computed in every epoch" if self.form is None else "computed once"
        return f"{self.part.words} are frozen and {once}: {self.why}"


@dataclass(frozen=True)
class Reuse:
    """What the forward passes of training batches and of validation batches run in."""

    training: Around = computed
    validation: Around = computed


def decide(job: Job, folder: Path, validation: Shard, begun: bool = False) -> Decision:
    """Whether the states of what is frozen are kept in `folder`.

    A training that has `begun` does as it did before, however full the disk is by now.
    """
    part = frozen_part(job.computation.trainable)
    if part is None:
        return Decision("something trains in the lowest layer")
    problem = _refused(job, part)
    if problem is None and begun and not folder.is_dir():
        problem = "so it was when this training began"
    form = None if problem else form_of(job, part)
    if form is None or isinstance(form, str):
        return Decision(problem or form or "", part)
    size = _bytes(job, states_of(form), validation)
    room = int(DISK * shutil.disk_usage(folder.parent).free)
    if not folder.is_dir() and size > room:
        return Decision(f"their states would take {_mib(size)}, and half of the free disk is {_mib(room)}", part)
    return Decision(f"their states take {_mib(size)} of disk while this trains", part, form, size)


@contextmanager
def reused(job: Job, folder: Path, validation: Shard, begun: bool) -> Iterator[Reuse]:
    """Within the block the states of what is frozen are kept in `folder`, if it pays; says so either way.

    What an earlier process kept there is read again.
    """
    decision = decide(job, folder, validation, begun)
    cached = decision.form is not None
    emit("train.frozen", decision.words, cached=cached, why=decision.why, bytes=decision.bytes)
    if not cached:
        shutil.rmtree(folder, ignore_errors=True)
    with kept(job, decision, folder, validation) as reuse:
        yield reuse


@contextmanager
def kept(job: Job, decision: Decision, folder: Path, validation: Shard) -> Iterator[Reuse]:
    """Within the block the states that the decision is about are kept in `folder`, or nothing is."""
    if decision.part is None or decision.form is None:
        yield Reuse()
        return
    with ExitStack() as stack:
        contexts = []
        for name, shard in (("train", job.shard), ("validation", validation)):
            states = states_of(decision.form)
            store = Store(folder / name, shard.input_offsets, states.shape[-1], states.dtype)
            stack.callback(store.close)
            contexts.append(Kept(decision.part, decision.form, shard, store))
        yield Reuse(*contexts)


def _refused(job: Job, part: Part) -> str | None:
    """Why the part's states are not worth keeping, or not the same in every epoch; None where they are."""
    if job.settings.cache_activations == "off":
        return "train.cache_activations is off"
    if not job.steps.epochs[-1]:
        return "no row is seen twice"
    if part.share < PAYS:
        return f"{part.share:.0%} of the layers, and less than a third saves little"
    if job.several:
        return "several processes train together"
    rows = job.steps[0][1][:LOOKED_AT]
    drawn = examples(job, job.shard, rows, epoch=0)
    if not all(np.array_equal(row.input_ids, job.shard[row.row].input_ids) for row in drawn):
        return f"objective {job.settings.objective.name} rewrites its inputs in every epoch"
    return None


def _bytes(job: Job, states: Tensor, validation: Shard) -> int:
    """What the states of all rows that will be seen take, when they are like these."""
    seen = min(int(job.shard.input_offsets[-1]), int(job.steps.tokens.sum()))
    return (seen + int(validation.input_offsets[-1])) * states.shape[-1] * states.itemsize


def _mib(size: int) -> str:
    return f"{size / 2**20:,.0f} MiB" if size < 2**30 else f"{size / 2**30:,.1f} GiB"
