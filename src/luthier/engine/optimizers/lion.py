"""Lion (Chen et al. 2023, algorithm 2): the sign of a mix of the mean gradient and the newest one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from pydantic import Field

from luthier.engine.optimizers.contract import FLOAT, OptimizerEntry, Options, Weight, decayed, per_number
from luthier.recipe.values import Number


class LionConfig(Options):
    """Options of Lion; every number moves by the learning rate, so that it wants a tenth of AdamW's."""

    weight_decay: Number = Field(0.1, ge=0)
    """Decoupled decay of matrices; ten times AdamW's, since the learning rate is a tenth."""
    beta1: Number = Field(0.9, ge=0, lt=1)
    """Share of the mean gradient in the mix whose sign is the step."""
    beta2: Number = Field(0.99, ge=0, lt=1)
    """Share of the mean gradient that stays from one step to the next."""


class LionOptimizer(torch.optim.Optimizer):
    """Lion over parameter groups with `lr`, `betas` and `weight_decay`."""

    def __init__(self, groups: list[dict[str, Any]], betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": 0.0, "betas": betas, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """w <- w - lr (sign(b1 m + (1 - b1) g) + decay w), then m <- b2 m + (1 - b2) g."""
        for group in self.param_groups:
            rate, (beta1, beta2) = group["lr"], group["betas"]
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["exp_avg"] = torch.zeros_like(parameter)
                mean = state["exp_avg"]
                parameter.mul_(1 - rate * group["weight_decay"])
                parameter.add_(mean.lerp(gradient, 1 - beta1).sign_(), alpha=-rate)
                mean.lerp_(gradient, 1 - beta2)


def build_lion(weights: Sequence[Weight], config: LionConfig, seed: int) -> torch.optim.Optimizer:
    """Lion over matrices, which decay, and vectors, which do not."""
    return LionOptimizer(decayed(weights, config.weight_decay), (config.beta1, config.beta2))


LION = OptimizerEntry(LionConfig, build_lion, per_number(FLOAT), elementwise=True)
