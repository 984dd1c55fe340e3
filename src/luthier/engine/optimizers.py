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


ADAMW = OptimizerEntry(AdamWConfig, build_adamw)

OPTIMIZERS: Table[OptimizerEntry] = Table("optimizer", {"adamw": "luthier.engine.optimizers:ADAMW"})
