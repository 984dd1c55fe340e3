"""Optimisers, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from luthier.core.tables import Table


@dataclass(frozen=True)
class OptimizerEntry:
    """An entry of the table: its options, and how it is built from the named parameters."""

    config: type[BaseModel]
    build: Callable[[Mapping[str, nn.Parameter], Any], torch.optim.Optimizer]


class AdamWConfig(BaseModel):
    """AdamW (Loshchilov and Hutter 2019)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight_decay: float = Field(0.01, ge=0)
    """Decoupled decay of matrices; vectors (norms, biases) are not decayed."""
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    eps: float = Field(1e-8, gt=0)


def build_adamw(parameters: Mapping[str, nn.Parameter], config: AdamWConfig) -> torch.optim.Optimizer:
    """AdamW over two groups, matrices and vectors; the learning rate is set before each step."""
    matrices = [p for p in parameters.values() if p.ndim >= 2]
    vectors = [p for p in parameters.values() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=0.0,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        fused=True,
    )


class AdafactorConfig(BaseModel):
    """Adafactor (Shazeer and Stern 2018); T5's own optimiser, whose steps are relative to the size of each weight.

    A T5 has embeddings of size 1 beside queries of size 0.01 and attention without a scale: a step that suits the one
    wrecks or freezes the other. The learning rate is the relative one, about 1e-2.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weight_decay: float = Field(0.0, ge=0)
    """Decoupled decay."""
    beta2_decay: float = Field(-0.8, lt=0)
    """The second moment forgets as 1 - step ** beta2_decay."""
    clip: float = Field(1.0, gt=0)
    """Largest root mean square of an update before it is scaled."""


def build_adafactor(parameters: Mapping[str, nn.Parameter], config: AdafactorConfig) -> torch.optim.Optimizer:
    """Adafactor over all parameters; the second moment of a matrix is kept as a row and a column."""
    return torch.optim.Adafactor(
        list(parameters.values()),
        lr=0.0,
        beta2_decay=config.beta2_decay,
        d=config.clip,
        weight_decay=config.weight_decay,
    )


ADAMW = OptimizerEntry(AdamWConfig, build_adamw)
ADAFACTOR = OptimizerEntry(AdafactorConfig, build_adafactor)

OPTIMIZERS: Table[OptimizerEntry] = Table(
    "optimizer",
    {
        "adamw": "luthier.engine.optimizers:ADAMW",
        "adafactor": "luthier.engine.optimizers:ADAFACTOR",
    },
)
