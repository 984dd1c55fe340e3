"""What a variant gains by computing its frozen part once: the same steps again, with the states kept and read."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from luthier.core.shards import Shard
from luthier.engine.frozen.reuse import ACTIVATIONS, Decision, Reuse, decide, kept
from luthier.engine.job import Job
from luthier.plan.cost import Rates
from luthier.plan.probe import score_seconds, step_seconds


def decision(job: Job, out: Path, validation: Shard) -> Decision:
    """Whether the training will keep the states of what is frozen, told by the free disk around `out`."""
    return decide(job, out / ACTIVATIONS, validation)


def with_replay(job: Job, found: Decision, out: Path, validation: Shard, rates: Rates) -> Rates:
    """The rates of a first epoch, which writes the states down, and of later ones; as they are where none are kept.

    The weights of the job change: throw it away afterwards.
    """
    if found.form is None:
        return rates
    with _for_a_while(job, found, out, validation) as reuse:
        own = replace(job, computation=replace(job.computation, around=reuse.training))
        (first, _), (later, _) = step_seconds(own), step_seconds(own)
        scored, rescored = (score_seconds(job, validation, reuse.validation) for _ in range(2))
    return replace(rates, trained=first, replayed=later, scored=scored, rescored=rescored)


@contextmanager
def _for_a_while(job: Job, found: Decision, out: Path, validation: Shard) -> Iterator[Reuse]:
    try:
        with kept(job, found, out / ACTIVATIONS, validation) as reuse:
            yield reuse
    finally:
        shutil.rmtree(out / ACTIVATIONS, ignore_errors=True)
