"""What the trackers of a training are told: its settings, the lines of its journal, how it ended."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from luthier.core.artefacts import Artefacts
from luthier.engine.job import Job
from luthier.recipe.sections import TrainSection
from luthier.trackers.contract import Followed
from luthier.trackers.installed import flat
from luthier.trackers.relay import Ending, following
from luthier.train import checkpoint
from luthier.train.journal import JOURNAL
from luthier.train.state import State


def tracked(section: TrainSection, inputs: Artefacts, out: Path, job: Job) -> AbstractContextManager[Ending]:
    """The trackers follow the journal during the block; of several processes the leading one's alone."""
    settings = {**section.model_dump(mode="json"), "chosen": checkpoint.chosen(job)}
    followed = Followed(inputs.run, out, dict(flat(settings)))
    track = section.training.track if job.computation.world.leads else ()
    return following(track, followed, out / JOURNAL)


def outcome(state: State) -> dict[str, Any]:
    """How the training went, in numbers: the best validation, what it took, what was odd."""
    return {
        **state.best_metrics,
        "best_step": state.best_step if state.best is not None else state.step,
        "tokens": state.tokens,
        "seconds": round(state.seconds, 3),
        "skipped_steps": len(state.skipped),
        "spikes": len(state.spikes),
    }
