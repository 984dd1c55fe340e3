"""From the memory that the probe held to what the run will hold at its peak."""

from __future__ import annotations

SHARE = 0.12  # what a run may hold above the probe's peak: fragments of the allocator, batches of other lengths
SLACK = 32 * 2**20  # and what does not grow with the model: the journal, the optimiser's code, progress bars


def predicted_bytes(peak: int) -> int:
    """The peak of a run whose probe peaked at `peak`."""
    return round(peak * (1 + SHARE)) + SLACK
