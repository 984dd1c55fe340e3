"""What a learning curve says: learning, plateau, overfitting or unstable, and the rule that gave it.

The training curve is noisy, so it is read through the medians of at most 20 blocks of equal length; the validation
curve is read as it stands. The rules are asked in this order, and the first that holds answers:

1. unstable: a loss is not finite, or a block lies above the lowest one before it by more than 20 % and by more than
   four times the scatter of single steps;
2. overfitting: the last validation loss is at least 2 % above the best one while the training loss went on falling;
3. plateau: over the last third of the run the validation loss fell by less than 1 %;
4. learning: otherwise, and the run may have ended too early.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Literal

BLOCKS = 20
JUMP, SCATTERS = 0.20, 4.0
RISE = 0.02
FALL = 0.01
LAST = 1 / 3

Point = tuple[int, float]  # step, loss in nats per token


@dataclass(frozen=True)
class Verdict:
    """The answer and its reason, with the numbers; `unknown` where there are too few points for any rule."""

    verdict: Literal["learning", "plateau", "overfitting", "unstable", "unknown"]
    rule: str


def judge(train: Sequence[Point], validation: Sequence[Point]) -> Verdict:
    """Judge one variant's curves; both are (step, loss) in the order of the steps."""
    broken = next((point for point in (*train, *validation) if not math.isfinite(point[1])), None)
    if broken is not None:
        return Verdict("unstable", f"the loss was not a number at step {broken[0]:,}")
    blocks = smooth(train)
    jump = _jump(train, blocks)
    if jump is not None:
        return jump
    by_validation = len(validation) >= 3
    curve = list(validation) if by_validation else blocks
    if len(curve) < 3:
        return Verdict("unknown", f"only {len(train)} steps and {len(validation)} validations: too few to judge")
    return (_overfitting(blocks, curve) if by_validation else None) or _end(curve, by_validation)


def smooth(train: Sequence[Point]) -> list[Point]:
    """The medians of at most 20 blocks of equal length, each at the step in its middle."""
    size = max(1, math.ceil(len(train) / BLOCKS))
    blocks = [train[i : i + size] for i in range(0, len(train), size)]
    return [(block[len(block) // 2][0], median(loss for _, loss in block)) for block in blocks]


def _jump(train: Sequence[Point], blocks: Sequence[Point]) -> Verdict | None:
    steps = [abs(b[1] - a[1]) for a, b in pairwise(train)]
    scatter = median(steps) if steps else 0.0
    lowest: Point | None = None
    for step, loss in blocks:
        if lowest is not None and loss - lowest[1] > max(JUMP * lowest[1], SCATTERS * scatter):
            rise = loss / lowest[1] - 1 if lowest[1] > 0 else math.inf
            return Verdict(
                "unstable",
                f"the training loss rose from {lowest[1]:.3f} (step {lowest[0]:,}) to {loss:.3f} (step {step:,}), "
                f"by {rise:.0%}: more than {JUMP:.0%} and more than {SCATTERS:.0f} times its usual scatter",
            )
        if lowest is None or loss < lowest[1]:
            lowest = (step, loss)
    return None


def _overfitting(blocks: Sequence[Point], validation: Sequence[Point]) -> Verdict | None:
    best = min(validation, key=lambda point: point[1])
    last = validation[-1]
    if last[1] < best[1] * (1 + RISE) or last[0] <= best[0]:
        return None
    before = min(blocks, key=lambda point: abs(point[0] - best[0]), default=best)
    after = blocks[-1] if blocks else last
    rise = f"the validation loss rose from {best[1]:.3f} (step {best[0]:,}) to {last[1]:.3f} (step {last[0]:,})"
    if after[1] < before[1]:
        return Verdict(
            "overfitting",
            f"{rise}, by {last[1] / best[1] - 1:.1%} (at least {RISE:.0%}), while the training loss fell from "
            f"{before[1]:.3f} to {after[1]:.3f}",
        )
    return Verdict("unstable", f"{rise} without the training loss falling ({before[1]:.3f} to {after[1]:.3f})")


def _end(curve: Sequence[Point], by_validation: bool) -> Verdict:
    name = "validation" if by_validation else "training"
    first, last = curve[0], curve[-1]
    turn = last[0] - (last[0] - first[0]) * LAST
    start = max((point for point in curve if point[0] <= turn), key=lambda point: point[0])
    before = min(loss for step, loss in curve if step <= start[0])
    after = min(loss for step, loss in curve if step > start[0])
    fall = 1 - after / before if before > 0 else 0.0
    told = f"over the last third (from step {start[0]:,}) the {name} loss went from {before:.3f} to {after:.3f}"
    if fall >= FALL:
        return Verdict("learning", f"{told}: still falling, by {fall:.1%} (at least {FALL:.0%})")
    whole = 1 - min(before, after) / first[1] if first[1] > 0 else 0.0
    never = f"; it never fell by more than {whole:.1%} in all" if whole < RISE else ""
    return Verdict("plateau", f"{told}: it fell by less than {FALL:.0%}{never}")
