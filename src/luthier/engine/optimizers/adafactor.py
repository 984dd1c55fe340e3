"""Adafactor (Shazeer and Stern 2018); T5's own optimiser, whose steps are relative to the size of each weight.

A T5 has embeddings of size 1 beside queries of size 0.01 and attention without a scale: a step that suits the one
wrecks or freezes the other. The learning rate is the relative one, about 1e-2.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from pydantic import Field

from luthier.engine.optimizers.contract import FLOAT, OptimizerEntry, Options, Weight, groups
from luthier.recipe.values import Number


class AdafactorConfig(Options):
    """Options of Adafactor."""

    weight_decay: Number = Field(0.0, ge=0)
    """Decoupled decay."""
    beta2_decay: Number = Field(-0.8, lt=0)
    """The second moment forgets as 1 - step ** beta2_decay."""
    clip: Number = Field(1.0, ge=1)
    """Largest root mean square of an update before it is scaled."""


def build_adafactor(weights: Sequence[Weight], config: AdafactorConfig, seed: int) -> torch.optim.Optimizer:
    """Adafactor over all parameters; the second moment of a matrix is kept as a row and a column."""
    return torch.optim.Adafactor(
        groups(weights), lr=0.0, beta2_decay=config.beta2_decay, d=config.clip, weight_decay=config.weight_decay
    )


def _state(weights: Sequence[Weight], config: AdafactorConfig) -> int:
    """One number for each row and each column of a matrix, one for each number of a vector."""
    total = 0
    for weight in weights:
        p = weight.parameter
        total += p.numel() if p.ndim < 2 else p.numel() // p.shape[-1] + p.numel() // p.shape[-2]
    return FLOAT * total


ADAFACTOR = OptimizerEntry(AdafactorConfig, build_adafactor, _state)
