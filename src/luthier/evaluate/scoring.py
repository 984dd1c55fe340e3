"""From answers and likelihoods to scores with intervals, and to paired comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import log
from typing import Any

import numpy as np

from luthier.core.errors import UserError
from luthier.core.statistics import interval, paired
from luthier.metrics import METRICS
from luthier.metrics.contract import Metric, ratio
from luthier.recipe.schema import Evaluate


def _bits_per_byte(nll: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Statistics (n, 2): bits, and bytes of text."""
    return np.column_stack([nll / log(2), size]).astype(float)


BITS_PER_BYTE = Metric("bits_per_byte", "Bits per byte", False, "losses", _bits_per_byte, ratio)
"""How many bits the model needs for a byte of the text: comparable across tokenizers. Measured on running text."""


@dataclass(frozen=True)
class Measured:
    """What one subject (a baseline or a variant) gave on the test rows.

    `answers` (n strings); `nll` (n,) nats and `tokens` (n,) of the reference answers, `size` (n,) their bytes in
    UTF-8; `general` (m, 2), the nats and tokens of each general text. What could not be had is None, of the answers
    and losses with the reason under its name in `reasons`.
    """

    name: str
    answers: list[str] | None = None
    nll: np.ndarray | None = None
    tokens: np.ndarray | None = None
    size: np.ndarray | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    general: np.ndarray | None = None


@dataclass(frozen=True)
class Table:
    """The statistics (n, k) of every subject and metric, and why some are absent."""

    metrics: dict[str, Metric]
    statistics: dict[str, dict[str, np.ndarray]]
    absent: dict[str, dict[str, str]]


def metrics_of(section: Evaluate, with_answers: bool) -> dict[str, Metric]:
    """What can be measured of what the recipe asks for; rows of running text have no answers to compare.

    Raises UserError when `evaluate.select` is none of it though there are answers.
    """
    asked = {name: METRICS[name] for name in section.metrics}
    if not with_answers:
        asked = {name: metric for name, metric in asked.items() if metric.needs == "losses"}
        asked["bits_per_byte"] = BITS_PER_BYTE
    elif section.select not in asked:
        raise UserError(
            f"evaluate.select is '{section.select}', which is not measured: "
            f"choose one of {', '.join(asked)}, or add it to evaluate.metrics"
        )
    return asked


def selecting(section: Evaluate, metrics: Mapping[str, Metric]) -> str:
    """`evaluate.select`; the first metric measured where running text has no answers that it compares."""
    return section.select if section.select in metrics else next(iter(metrics))


def tabulate(
    measured: Sequence[Measured], metrics: Mapping[str, Metric], references: Sequence[tuple[str, ...]]
) -> Table:
    """The statistics of every subject; a metric that a subject cannot have is absent with its reason."""
    statistics: dict[str, dict[str, np.ndarray]] = {}
    absent: dict[str, dict[str, str]] = {}
    for subject in measured:
        own = statistics.setdefault(subject.name, {})
        for name, metric in metrics.items():
            rows = _rows(subject, metric, references)
            if rows is None:
                absent.setdefault(subject.name, {})[name] = subject.reasons[metric.needs]
            else:
                own[name] = rows
    return Table(dict(metrics), statistics, absent)


def _rows(subject: Measured, metric: Metric, references: Sequence[tuple[str, ...]]) -> np.ndarray | None:
    if metric.needs == "answers":
        return None if subject.answers is None else metric.rows(subject.answers, references)
    if subject.nll is None:
        return None
    return metric.rows(subject.nll, subject.size if metric is BITS_PER_BYTE else subject.tokens)


def scores(table: Table, section: Evaluate, seed: int) -> dict[str, dict[str, Any]]:
    """Every subject's metrics with their bootstrap intervals: {subject: {metric: {value, low, high, n}}}."""
    options = {"resamples": section.resamples, "confidence": section.confidence, "seed": seed}
    return {
        subject: {name: interval(rows, table.metrics[name].value, **options).to_json() for name, rows in own.items()}
        for subject, own in table.statistics.items()
    }


def comparisons(
    table: Table, variants: Sequence[str], baselines: Sequence[str], section: Evaluate, seed: int
) -> list[dict[str, Any]]:
    """Each variant (a) against each baseline (b), and the variants among themselves, on every metric both have.

    Likelihoods are compared only where both subjects were scored on the very same number of tokens of each row.
    """
    options = {"resamples": section.resamples, "confidence": section.confidence, "seed": seed}
    pairs = [(a, b) for a in variants for b in baselines] + list(combinations(variants, 2))
    found = []
    for a, b in pairs:
        for name, metric in table.metrics.items():
            ours, theirs = table.statistics[a].get(name), table.statistics[b].get(name)
            if ours is None or theirs is None:
                continue
            if metric.needs == "losses" and not np.array_equal(ours[:, 1], theirs[:, 1]):
                continue
            result = paired(ours, theirs, metric.value, **options)
            found.append({"a": a, "b": b, "metric": name, **result.to_json()})
    return found


def best(scored: Mapping[str, Mapping[str, Any]], variants: Sequence[str], metric: Metric) -> str:
    """The variant with the best value of the metric; of equals the first of the recipe."""
    sign = 1 if metric.higher_is_better else -1
    return max(variants, key=lambda name: sign * scored[name][metric.name]["value"])


def row_scores(table: Table, subject: str) -> list[dict[str, float]]:
    """Each row's own value of the metrics that compare answers, for choosing what to show."""
    own = {
        name: table.metrics[name].value(rows)
        for name, rows in table.statistics[subject].items()
        if table.metrics[name].needs == "answers"
    }
    count = max((len(values) for values in own.values()), default=0)
    return [{name: round(float(values[i]), 4) for name, values in own.items()} for i in range(count)]
