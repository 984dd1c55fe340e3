"""How probable the model finds the reference answers: loss and perplexity over all their tokens."""

from __future__ import annotations

import numpy as np

from luthier.metrics.contract import Metric, ratio


def rows(nll: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Statistics (n, 2): nats, summed over the row's tokens, and tokens."""
    return np.column_stack([nll, tokens]).astype(float)


def perplexity(sums: np.ndarray) -> np.ndarray:
    """exp(nats / tokens), long rows counting for more than short ones."""
    return np.exp(ratio(sums))


LOSS = Metric("loss", "Loss", False, "losses", rows, ratio)
PERPLEXITY = Metric("perplexity", "Perplexity", False, "losses", rows, perplexity)
