"""Whether a model's frozen part can be replayed: found out when a training begins, by a test."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from luthier.core.shards import Example
from luthier.engine.batches import collate
from luthier.engine.forward import boundaries, forward
from luthier.engine.frozen.part import Part
from luthier.engine.frozen.replay import given, in_form_of, states_of, taken
from luthier.engine.job import Job
from luthier.objectives.contract import Batch

LENGTHS = (7, 12)
TOLERANCE = 1e-4  # relative; kernels need not give the same bits twice
DRAWS = 2  # forward passes in training mode that must all give the states of one without dropout


def form_of(job: Job, part: Part) -> Any | str:
    """What the part gives for two short rows; a reason in words where it may not be replayed.

    Its states must be the same in training as in evaluation, and what the model says of them the same with the part
    as with its states put in its place.
    """
    model = job.base.model
    layers_dropped = [name for name, value in model.config.to_dict().items() if "layerdrop" in name and value]
    if layers_dropped:
        return f"whole layers are dropped at random ({layers_dropped[0]})"
    training, devices = model.training, range(torch.cuda.device_count())
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=devices), job.computation.arithmetic():
            return _tried(job, part)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        return f"it cannot be left out ({str(error).splitlines()[0]})"
    finally:
        model.train(training)


def _tried(job: Job, part: Part) -> Any | str:
    model, batch = job.base.model, _two_rows(job)
    expected, output = _said(job, part, batch)
    model.train()
    for _ in range(DRAWS):
        if not _same(states_of(_said(job, part, batch)[1]), states_of(output)):
            return "dropout is at work below what trains"
    model.eval()
    with given(part, in_form_of(output, states_of(output).clone())), boundaries(batch):
        found = forward(model, batch).nll(batch.labels)
    return output if _same(found, expected) else "its states are not all that the layers above read of it"


def _said(job: Job, part: Part, batch: Batch) -> tuple[Tensor, Any]:
    with taken(part) as outputs, boundaries(batch):
        return forward(job.base.model, batch).nll(batch.labels), outputs[-1]


def _same(found: Tensor, expected: Tensor) -> bool:
    return bool((found - expected).norm() <= TOLERANCE * expected.norm())


def _two_rows(job: Job) -> Batch:
    rng = np.random.default_rng(0)
    known = job.base.model.get_input_embeddings().weight.size(0)  # pyright: ignore[reportCallIssue]
    rows = [rng.integers(known, size=length) for length in LENGTHS]
    return collate([Example(ids, ids) for ids in rows], job.layout, job.computation.device)
