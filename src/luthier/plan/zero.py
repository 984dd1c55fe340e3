"""Bytes that each of several devices holds of a model in training, by what is shared out among them.

The stages of ZeRO (Rajbhandari et al. 2020, "ZeRO: memory optimizations toward training trillion parameter models",
figure 1): at stage 0 every device holds all; at stage 1 the optimiser's state is shared out, at 2 the gradients too,
at 3 the parameters too. Activations come on top; each device has those of its own micro-batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DEVICES = (1, 2, 4, 8)
STAGES = ("none", "optimizer", "gradients", "parameters")  # what is shared out last, by the number of the stage


@dataclass(frozen=True)
class Held:
    """Bytes of a model's parameters, of the gradients, and of the optimiser's state (fp32 copies among it)."""

    parameters: int
    gradients: int
    optimizer: int


def per_device(held: Held, devices: int) -> dict[str, int]:
    """Bytes on each of so many devices, by what is shared out: frozen parameters are shared out like any others."""
    shared = (held.optimizer, held.gradients, held.parameters)
    total = sum(shared)
    return {
        name: round(total - sum(shared[:stage]) + sum(shared[:stage]) / devices) for stage, name in enumerate(STAGES)
    }


def table(held: Held, devices: Sequence[int] = DEVICES) -> dict[str, dict[str, int]]:
    """`per_device` for some numbers of devices, which JSON writes as text."""
    return {str(count): per_device(held, count) for count in devices}
