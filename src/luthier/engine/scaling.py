"""The factor by which a loss is multiplied in fp16, so that small gradients do not round to zero.

Its value is a power of two: multiplying by it and dividing again is exact. (Micikevicius et al. 2018, Mixed precision
training; the halving and doubling as in torch.amp.GradScaler, but a step that overflows is repeated, not lost.)
"""

from __future__ import annotations

import math

from luthier.engine.step import StepResult

START = 2.0**16
CALM = 2000  # steps without an overflow after which a larger factor is tried


def first_scale(precision: str) -> float:
    """The factor that training in this precision begins with; 1 where none is needed."""
    return START if precision == "fp16" else 1.0


def overflowed(result: StepResult, scale: float) -> bool:
    """Whether the gradient is not a number though the loss is one, and a smaller factor may mend it."""
    return scale > 1 and math.isfinite(result.loss) and not math.isfinite(result.grad_norm)


def grown(scale: float, calm: int) -> tuple[float, int]:
    """The factor and the count of calm steps after one more of these: twice the factor after every `CALM`."""
    return (scale, calm + 1) if calm + 1 < CALM else (2 * scale, 0)
