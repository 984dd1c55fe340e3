"""Where the time of Luthier's own steps goes: `python -m benchmarks.train.breakdown RUN` prints shares as JSON.

Every operation's own time is put under what it serves: matrix products by their shapes, the rest by the autograd
function that called it.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile

from benchmarks.train.prepare import job_of
from luthier.engine.backend import tuned
from luthier.engine.job import draw
from luthier.engine.step import set_learning_rate

WARM, SEEN = 2, 3
THIN = 64  # a matrix product with a side at most so wide is one of a LoRA
PRODUCTS = {"aten::mm", "aten::addmm", "aten::addmm_"}
SERVES = {
    "_Attend": "attention",
    "_Nll": "head and loss",
    "_Norm": "norms, activations, rotary",
    "_Gated": "norms, activations, rotary",
    "_Rotate": "norms, activations, rotary",
    "_Project": "copies around products",
    "Optimizer": "optimiser",
}
OTHER = "other"


def main(run: str) -> None:
    """Profile some steps and print the shares."""
    job = job_of(Path(run))
    job.computation.trainable.model.train()
    with tuned(job.computation.device):
        for step in range(WARM):
            _step(job, step)
        start = time.perf_counter()
        for step in range(WARM, WARM + SEEN):
            _step(job, step)
        seconds = (time.perf_counter() - start) / SEEN
        with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as seen:
            for step in range(WARM, WARM + SEEN):
                _step(job, step)
    vocabulary = len(job.base.model.get_input_embeddings().weight)  # pyright: ignore[reportArgumentType]
    shares = shares_of(seen.events() or [], vocabulary)
    print(json.dumps({"seconds_per_step": seconds, "shares": shares}))


def _step(job: Any, step: int) -> None:
    set_learning_rate(job.optimizer, job.settings.learning_rate)
    batches = draw(job, step, job.settings.micro_tokens)
    job.rule.update(job.computation, job.optimizer, batches, job.settings.clip).apply()
    job.optimizer.zero_grad(set_to_none=True)


def shares_of(events: Any, vocabulary: int) -> dict[str, float]:
    """The share of all operations' own time that each purpose took, largest first."""
    spent: dict[str, float] = {}
    for event in events:
        purpose = purpose_of(event, vocabulary)
        spent[purpose] = spent.get(purpose, 0.0) + event.self_cpu_time_total
    total = sum(spent.values())
    return {name: round(own / total, 4) for name, own in sorted(spent.items(), key=lambda item: -item[1])}


def purpose_of(event: Any, vocabulary: int) -> str:
    """What an operation serves."""
    if event.name in PRODUCTS:
        sizes = [size for shape in event.input_shapes for size in shape if len(shape) == 2]
        if vocabulary in sizes:
            return "head and loss"
        return "thin products of LoRA" if sizes and min(sizes) <= THIN else "matrix products"
    if "softmax" in event.name and _caller(event) == "attention":
        return "softmax of attention"
    return _caller(event)


def _caller(event: Any) -> str:
    while event is not None:
        for name, purpose in SERVES.items():
            if event.name.startswith(name):
                return purpose
        event = event.cpu_parent
    return OTHER


if __name__ == "__main__":
    main(*sys.argv[1:])
