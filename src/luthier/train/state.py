"""What changes while a run trains, beside weights and optimiser."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class State:
    """Where a run stands; everything here is in the checkpoint."""

    micro_tokens: int
    step: int = 0
    tokens: int = 0
    seconds: float = 0.0
    best: float | None = None  # the best value of `train.select`
    best_step: int = 0
    best_metrics: dict[str, float | None] = field(default_factory=dict)  # None where it was not a number
    since_best: int = 0  # validations since then
    skipped: list[int] = field(default_factory=list)  # steps whose loss or gradient was not a number
    out_of_patience: bool = False
    scale: float = 1.0  # of the loss, in fp16
    calm: int = 0  # steps since it last changed
    recent: list[list[float]] = field(default_factory=list)  # loss and gradient norm of the last steps
    compiled: bool | None = None  # whether the layers are; None until it is decided
    spikes: list[int] = field(default_factory=list)  # steps that lay far above them

    def improves(self, value: float, higher_is_better: bool) -> bool:
        """Whether this value of the chosen metric is the best so far; what is not a number never is."""
        if not math.isfinite(value):
            return False
        return self.best is None or (value > self.best if higher_is_better else value < self.best)
