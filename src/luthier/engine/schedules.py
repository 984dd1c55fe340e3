"""How the learning rate goes over a run, as a factor of its peak."""

from __future__ import annotations

import math
from collections.abc import Callable

SCHEDULES: dict[str, Callable[[float], float]] = {
    "cosine": lambda progress: 0.5 * (1 + math.cos(math.pi * progress)),
    "linear": lambda progress: 1 - progress,
    "constant": lambda progress: 1.0,
}


def factor(schedule: str, step: int, total: int, warmup: float) -> float:
    """The factor at step 0 .. total-1: a linear rise over the warm-up's share, then the schedule's fall towards 0."""
    rising = round(warmup * total)
    if step < rising:
        return (step + 1) / (rising + 1)
    return SCHEDULES[schedule]((step - rising) / max(total - rising, 1))
