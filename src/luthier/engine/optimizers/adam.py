"""Adam and AdamW: steps by the mean of the gradients over the root of the mean of their squares."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field

from luthier.engine.optimizers.contract import FLOAT, OptimizerEntry, Options, Weight, decayed, fusible, per_number
from luthier.recipe.values import Number

TWO_MOMENTS = per_number(2 * FLOAT)


class AdamConfig(Options):
    """Options of Adam (Kingma and Ba 2015)."""

    weight_decay: Number = Field(0.0, ge=0)
    """Decay of matrices, as a part of the gradient; what AdamW does instead is usually better."""
    beta1: Number = Field(0.9, ge=0, lt=1)
    """Share of the mean gradient that stays from one step to the next."""
    beta2: Number = Field(0.999, ge=0, lt=1)
    """Share of the mean squared gradient that stays from one step to the next."""
    eps: Number = Field(1e-8, gt=0)
    """Added to the root, against division by zero."""


class AdamWConfig(AdamConfig):
    """Options of AdamW (Loshchilov and Hutter 2019)."""

    weight_decay: Number = Field(0.01, ge=0)
    """Decoupled decay of matrices; vectors (norms, biases) are not decayed."""


def build_adam(weights: Sequence[Weight], config: AdamConfig, seed: int) -> torch.optim.Optimizer:
    """torch's Adam, fused where the device can."""
    return _moments(torch.optim.Adam, weights, config)


def build_adamw(weights: Sequence[Weight], config: AdamWConfig, seed: int) -> torch.optim.Optimizer:
    """torch's AdamW, fused where the device can."""
    return _moments(torch.optim.AdamW, weights, config)


def _moments(kind: type[torch.optim.Adam], weights: Sequence[Weight], config: AdamConfig) -> torch.optim.Optimizer:
    return kind(
        decayed(weights, config.weight_decay),
        lr=0.0,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=fusible(weights, parts=True),
    )


ADAM = OptimizerEntry(AdamConfig, build_adam, TWO_MOMENTS, elementwise=True)
ADAMW = OptimizerEntry(AdamWConfig, build_adamw, TWO_MOMENTS, elementwise=True)
