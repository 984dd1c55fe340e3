"""The metric contract: sufficient statistics per row, and the value of their sums.

Statistics make the corpus value of any subset of rows, and so of any bootstrap resample, a matrix product and one
vectorised call. Shapes: n rows, k statistics.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class Metric:
    """An entry of the table.

    `rows` gives the statistics (n, k) of each row: of metrics that need "answers", from the answers (n strings) and
    the references (n non-empty tuples of strings); of those that need "losses", from each row's summed negative
    log-likelihood (n,) in nats and its number of tokens (n,). `value` turns sums of statistics (..., k) into
    the metric (...).
    """

    name: str
    label: str
    higher_is_better: bool
    needs: Literal["answers", "losses"]
    rows: Callable[..., np.ndarray]
    value: Callable[[np.ndarray], np.ndarray]

    def corpus(self, statistics: np.ndarray) -> float:
        """The metric over all these rows (n, k)."""
        return float(self.value(statistics.sum(axis=0)))


def scores(values: list[float]) -> np.ndarray:
    """The statistics (n, 2) of a metric that is the mean of one number per row."""
    return np.column_stack([np.asarray(values, dtype=float), np.ones(len(values))])


def ratio(sums: np.ndarray) -> np.ndarray:
    """The first statistic over the second: a mean of `scores`, or nats per token."""
    return sums[..., 0] / sums[..., 1]
