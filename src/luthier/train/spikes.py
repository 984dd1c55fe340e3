"""Whether a step's loss or gradient norm lies far above those of the steps before it."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

WINDOW = 50  # steps that are remembered
ENOUGH = 20  # steps that must be known before one is judged
FAR = 10.0  # robust standard deviations
SMALLEST = 0.05  # of the median: how small a standard deviation is taken to be at least
NORMAL = 1.4826  # median absolute deviation -> standard deviation, of a normal distribution

Step = tuple[float, float]  # loss, gradient norm


def spikes(before: Sequence[Sequence[float]], step: Step) -> tuple[bool, bool]:
    """Whether the loss, and whether the gradient norm, of this step is a spike after those `before` it."""
    if len(before) < ENOUGH:
        return False, False
    losses, norms = zip(*before[-WINDOW:], strict=True)
    return step[0] > highest(losses), step[1] > highest(norms)


def highest(values: Sequence[float]) -> float:
    """The largest value that is still usual among these: median + 10 standard deviations, told by the median too."""
    centre = median(values)
    deviation = NORMAL * median(abs(value - centre) for value in values)
    return centre + FAR * max(deviation, SMALLEST * abs(centre))
