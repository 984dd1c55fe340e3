"""Does a row have the same loss in a batch as alone?"""

from __future__ import annotations

import numpy as np

from luthier.plan.finding import Finding, error, ok
from luthier.plan.subject import Subject

TOLERANCE = 1e-4  # relative; fp32 differs by some 1e-6 between one order of sums and another


def packed_loss_differs(subject: Subject) -> Finding:
    """The loss of rows that share a batch is, row by row, their loss when each stands alone."""
    together, alone = subject.likelihoods.together, subject.likelihoods.alone
    if not len(alone):
        return ok("no row has a label")
    off = np.abs(together - alone) / np.maximum(np.abs(alone), 1.0)
    worst = int(np.argmax(off))
    if off[worst] <= TOLERANCE:
        return ok(f"{len(alone)} rows have the same loss in a batch as alone (to {off[worst]:.0e})")
    return error(
        f"a row has a loss of {together[worst]:.4f} nats in a batch and of {alone[worst]:.4f} alone: attention "
        "crosses from one sequence into the next; this model family needs padded batches"
    )
