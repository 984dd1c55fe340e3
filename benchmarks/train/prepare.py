"""What both sides train on, from Luthier's own planned steps: the examples of each step, and the first adapter.

`python -m benchmarks.train.prepare RECIPE RUN FOLDER` makes stages 1 to 3 of the run, and in FOLDER `examples.npz`
and, where a LoRA is trained, `adapter` in PEFT's format.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

import luthier
from luthier.engine.job import Job, build
from luthier.methods import METHODS


def main(recipe: str, run: str, folder: str) -> None:
    """Plan the run, then write down what it will train on."""
    opened = luthier.open_run(recipe, out=run).plan()
    job = job_of(Path(run))
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    rows = [job.shard[row] for row in range(len(job.shard))]
    np.savez(
        out / "examples.npz",
        steps=np.stack([step[1] for step in job.steps]),
        input_ids=np.concatenate([row.input_ids for row in rows]),
        input_lengths=np.array([len(row.input_ids) for row in rows]),
        labels=np.concatenate([row.labels for row in rows]),
        label_lengths=np.array([len(row.labels) for row in rows]),
        trainable=np.array(sum(p.numel() for p in job.computation.trainable.parameters.values())),
        total=np.array(sum(p.numel() for p in job.base.model.parameters())),
    )
    method = METHODS[job.settings.method.name]
    if method.adapter:
        options = method.config(**job.settings.method.options)
        method.save(job.computation.trainable, out / "adapter", options, opened.recipe.model.base)


def job_of(run: Path) -> Job:
    """The job of a run's only variant."""
    recipe = luthier.open_run(run).recipe
    (name,) = recipe.train.names
    return build(recipe.seed, recipe.model, recipe.data, recipe.train.variant(name), run / "1-data")


if __name__ == "__main__":
    main(*sys.argv[1:])
