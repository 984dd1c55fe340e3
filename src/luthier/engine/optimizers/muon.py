"""Muon (Jordan et al. 2024): the momentum of a matrix, made orthogonal; AdamW for all that is no inner matrix.

Steps of matrices are scaled to the size of AdamW's (Liu et al. 2025), so that both share one learning rate. The
Newton-Schulz iteration that makes a matrix orthogonal runs in bf16, as its authors have it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from pydantic import Field

from luthier.core.errors import UserError
from luthier.engine.optimizers.adam import AdamWConfig, build_adamw
from luthier.engine.optimizers.contract import FLOAT, OptimizerEntry, Weight, groups, numbers
from luthier.recipe.values import Number


class MuonConfig(AdamWConfig):
    """Options of Muon; beta1, beta2 and eps are those of AdamW for the rest."""

    weight_decay: Number = Field(0.1, ge=0)
    """Decoupled decay of matrices; vectors (norms, biases) are not decayed."""
    momentum: Number = Field(0.95, ge=0, lt=1)
    """Share of the mean gradient of a matrix that stays from one step to the next."""
    nesterov: bool = True
    """Mix the newest gradient in once more before the matrix is made orthogonal."""
    iterations: int = Field(5, ge=1, lt=100)
    """Newton-Schulz iterations."""


class Joined(torch.optim.Optimizer):
    """Several optimisers, each over its own parameters, as one: the groups and the state of all."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts
        for part in parts:
            part.state = self.state

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """A step of each."""
        for part in self.parts:
            part.step()


def build_muon(weights: Sequence[Weight], config: MuonConfig, seed: int) -> torch.optim.Optimizer:
    """torch's Muon for the matrices within layers, AdamW for embeddings, the output layer and vectors.

    Errors: UserError where there is no such matrix.
    """
    matrices = [weight for weight in weights if weight.matrix]
    rest = [weight for weight in weights if not weight.matrix]
    if not matrices:
        raise UserError(
            "train.optimizer: muon is for the matrices within layers, and none of these trains "
            f"({', '.join(weight.name for weight in weights[:3])}): write adamw"
        )
    muon = torch.optim.Muon(
        groups(matrices),
        lr=0.0,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        nesterov=config.nesterov,
        ns_steps=config.iterations,
        adjust_lr_fn="match_rms_adamw",
    )
    return Joined([muon, build_adamw(rest, config, seed)] if rest else [muon])


def _state(weights: Sequence[Weight], config: MuonConfig) -> int:
    matrices = numbers([weight for weight in weights if weight.matrix])
    return FLOAT * (2 * numbers(weights) - matrices)


MUON = OptimizerEntry(MuonConfig, build_muon, _state)
