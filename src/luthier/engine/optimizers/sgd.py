"""Stochastic gradient descent, with or without momentum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field, model_validator

from luthier.engine.optimizers.contract import FLOAT, OptimizerEntry, Options, Weight, decayed, fusible, numbers
from luthier.recipe.values import Number


class SGDConfig(Options):
    """Options of SGD."""

    momentum: Number = Field(0.0, ge=0, lt=1)
    """Share of the last step's direction that goes on (Sutskever et al. 2013); it costs 4 bytes per number."""
    nesterov: bool = False
    """Look ahead: take the gradient's step after the momentum's."""
    weight_decay: Number = Field(0.0, ge=0)
    """Decay of matrices, as a part of the gradient."""

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> SGDConfig:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov looks ahead along the momentum, which is 0: write momentum: 0.9")
        return self


def build_sgd(weights: Sequence[Weight], config: SGDConfig, seed: int) -> torch.optim.Optimizer:
    """torch's SGD, fused where the device can."""
    return torch.optim.SGD(
        decayed(weights, config.weight_decay),
        lr=0.0,
        momentum=config.momentum,
        nesterov=config.nesterov,
        fused=fusible(weights),
    )


def _state(weights: Sequence[Weight], config: SGDConfig) -> int:
    return FLOAT * numbers(weights) if config.momentum else 0


SGD = OptimizerEntry(SGDConfig, build_sgd, _state, elementwise=True)
