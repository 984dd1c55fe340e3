"""One optimiser step: gradients of all its micro-batches, clipped, applied."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from luthier.engine.device import arithmetic
from luthier.engine.forward import boundaries, forward
from luthier.methods.contract import Trainable
from luthier.objectives.contract import Batch, Objective


@dataclass(frozen=True)
class Computation:
    """What a step computes and how: the model, the objective with its options, the arithmetic."""

    trainable: Trainable
    objective: Objective
    config: Any
    precision: str
    device: torch.device


@dataclass(frozen=True)
class StepResult:
    """What one step gave: loss per counted unit, gradient norm before clipping, tokens read."""

    loss: float
    grad_norm: float
    tokens: int

    @property
    def finite(self) -> bool:
        """Whether loss and gradient are numbers."""
        return bool(torch.isfinite(torch.tensor([self.loss, self.grad_norm])).all())


def gradients(computation: Computation, batches: Sequence[Batch], clip: float) -> StepResult:
    """Add up the gradient of the step's loss over its micro-batches and clip its norm to `clip`.

    Each term of the loss is divided by its own count over all micro-batches.
    """
    counts: Counter[str] = Counter()
    for batch in batches:
        counts.update(computation.objective.counts(batch))
    loss = 0.0
    for batch in batches:
        with boundaries(batch):
            with arithmetic(computation.precision, computation.device):
                outputs = forward(computation.trainable.model, batch)
            terms = computation.objective.loss(outputs, batch, computation.config).terms
            share = sum(term.weight * term.sum / max(counts[name], 1) for name, term in terms.items())
            assert isinstance(share, torch.Tensor)
            share.backward()
            loss += share.item()
    norm = nn.utils.clip_grad_norm_(computation.trainable.parameters.values(), clip).item()
    return StepResult(loss, norm, sum(batch.tokens for batch in batches))


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """The same learning rate for every group."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate


def trains(parameters: Iterable[nn.Parameter]) -> int:
    """Number of parameters that train."""
    return sum(parameter.numel() for parameter in parameters)
