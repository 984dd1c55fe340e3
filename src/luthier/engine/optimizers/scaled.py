"""Optimisers that scale each number's step by the size of its gradients so far: AdaGrad, RMSprop, AdaDelta."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field

from luthier.engine.optimizers.contract import (
    FLOAT,
    OptimizerEntry,
    Options,
    Weight,
    decayed,
    fusible,
    numbers,
    per_number,
)
from luthier.recipe.values import Number


class AdagradConfig(Options):
    """Options of AdaGrad (Duchi et al. 2011)."""

    weight_decay: Number = Field(0.0, ge=0)
    """Decay of matrices, as a part of the gradient."""
    initial: Number = Field(0.0, ge=0)
    """What the sums of squared gradients begin with: above 0, the first steps are smaller."""
    eps: Number = Field(1e-10, gt=0)
    """Added to the root, against division by zero."""


def build_adagrad(weights: Sequence[Weight], config: AdagradConfig, seed: int) -> torch.optim.Optimizer:
    """torch's AdaGrad, fused on the CPU."""
    return torch.optim.Adagrad(
        decayed(weights, config.weight_decay),
        lr=0.0,
        initial_accumulator_value=config.initial,
        eps=config.eps,
        fused=fusible(weights, "cpu"),
    )


class RMSpropConfig(Options):
    """Options of RMSprop (Tieleman and Hinton 2012)."""

    alpha: Number = Field(0.99, ge=0, lt=1)
    """Share of the mean squared gradient that stays from one step to the next."""
    momentum: Number = Field(0.0, ge=0, lt=1)
    """Share of the last step's direction that goes on."""
    weight_decay: Number = Field(0.0, ge=0)
    """Decay of matrices, as a part of the gradient."""
    eps: Number = Field(1e-8, gt=0)
    """Added to the root, against division by zero."""


def build_rmsprop(weights: Sequence[Weight], config: RMSpropConfig, seed: int) -> torch.optim.Optimizer:
    """torch's RMSprop."""
    return torch.optim.RMSprop(
        decayed(weights, config.weight_decay),
        lr=0.0,
        alpha=config.alpha,
        momentum=config.momentum,
        eps=config.eps,
    )


def _rmsprop_state(weights: Sequence[Weight], config: RMSpropConfig) -> int:
    return FLOAT * numbers(weights) * (2 if config.momentum else 1)


class AdadeltaConfig(Options):
    """Options of AdaDelta (Zeiler 2012), whose own step size asks for a learning rate of about 1."""

    rho: Number = Field(0.9, ge=0, lt=1)
    """Share of the mean squares, of gradients and of steps, that stays from one step to the next."""
    weight_decay: Number = Field(0.0, ge=0)
    """Decay of matrices, as a part of the gradient."""
    eps: Number = Field(1e-6, gt=0)
    """Added under both roots; the first step grows with its root."""


def build_adadelta(weights: Sequence[Weight], config: AdadeltaConfig, seed: int) -> torch.optim.Optimizer:
    """torch's AdaDelta."""
    return torch.optim.Adadelta(decayed(weights, config.weight_decay), lr=0.0, rho=config.rho, eps=config.eps)


ADAGRAD = OptimizerEntry(AdagradConfig, build_adagrad, per_number(FLOAT), elementwise=True)
RMSPROP = OptimizerEntry(RMSpropConfig, build_rmsprop, _rmsprop_state, elementwise=True)
ADADELTA = OptimizerEntry(AdadeltaConfig, build_adadelta, per_number(2 * FLOAT), elementwise=True)
