"""Numbers and findings in words: what the report says to somebody who is no engineer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MEANING = {
    "rouge1": "how many words an answer shares with the expected one, from 0 to 1",
    "rouge2": "how many pairs of neighbouring words an answer shares with the expected one, from 0 to 1",
    "rougeL": "how much of the expected answer's wording it gives in the same order, from 0 to 1",
    "bleu": "how many runs of up to four words an answer shares with the expected one, from 0 to 100",
    "exact_match": "the share of answers that are the expected one word for word",
    "perplexity": "how many words the model wavers between at each step of the expected answer",
    "loss": "how surprised the model is by the expected answer, in nats per token",
    "bits_per_byte": "how many bits the model needs for each byte of the text",
}
"""What each metric tells, in words."""

KNOWN = {"prompt": "Soft prompts are known to need models of a billion parameters and more (Lester et al. 2021)."}
"""What the literature says of a method that did not help, by method."""

CALLED = {"base": "the base", "few-shot": "the base shown examples", "lead": "the input's first sentences"}


def number(value: float | None) -> str:
    """A measured value with as many digits as matter: 0.612, 12.35, 1,234."""
    if value is None:
        return "–"
    size = abs(value)
    if size != size or size == float("inf"):
        return "not a number"
    digits = 3 if size <= 1 else 2 if size < 100 else 1 if size < 1000 else 0
    return f"{value:,.{digits}f}".replace("-", "−")


def signed(value: float | None) -> str:
    """A difference with its sign: +0.460, −0.012."""
    text = number(value)
    if not any(digit in "123456789" for digit in text):
        # a bound that is not zero must not look like it
        return f"{value:+.1g}".replace("-", "−") if value else text
    return text if text.startswith("−") else f"+{text}"


def short(value: float) -> str:
    """A tick of an axis: 0.5, 20, 1.5k, 3M."""
    size = abs(value)
    if size >= 1e6:
        return f"{value / 1e6:.3g}M"
    if size >= 1e4:
        return f"{value / 1e3:.3g}k"
    return f"{value:,.0f}" if size >= 1e3 else f"{value:.4g}"


def seconds(value: float | None) -> str:
    """A duration: 8.3 s, 4 min 12 s, 2 h 05 min."""
    if value is None:
        return "–"
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def money(value: float | None) -> str:
    """US dollars: $12.30, $0.0073, under $0.0001."""
    if value is None:
        return "–"
    if 0 < value < 0.0001:
        return "under $0.0001"
    return f"${value:,.2f}" if value >= 0.01 or value == 0 else f"${value:.4f}"


def size(value: float | None) -> str:
    """Bytes: 640 MiB, 1.9 GiB."""
    if value is None:
        return "–"
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:,.0f} MiB"


def probability(p: float) -> str:
    """A p value: < 0.001, 0.032."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else list(names))


def better(comparison: Mapping[str, Any], higher_is_better: bool) -> bool | None:
    """Whether a is better than b; None where that is not shown: the interval holds zero, or is none."""
    low, high = comparison["low"], comparison["high"]
    if low is None or high is None or low <= 0 <= high:
        return None
    return (low > 0) == higher_is_better


def statement(
    comparison: Mapping[str, Any],
    values: tuple[float, float],
    metric: Mapping[str, Any],
    confidence: float,
    rows: str,
) -> str:
    """One comparison as a sentence: whether a beats b, by how much, and how sure that is.

    `values` are a's and b's on the metric `{"label", "higher_is_better"}`; `rows` says on what, such as
    `200 unseen rows`.
    """
    other = CALLED.get(comparison["b"], comparison["b"])
    outcome = better(comparison, metric["higher_is_better"])
    figures = f"{metric['label']} {number(values[0])} against {number(values[1])}"
    span = f"between {signed(comparison['low'])} and {signed(comparison['high'])} with {confidence:.0%} confidence"
    if outcome is None:
        told = f"Not shown to differ from {other} on {rows}: {figures}"
        if comparison["low"] is None:
            return f"{told}; these are too few rows to tell."
        if comparison["low"] == comparison["high"] == 0:
            return f"{told}; the two are level on every single row."
        return (
            f"{told}; the true difference lies {span}, which includes none at all. "
            f"This test could see a difference of {number(comparison['detectable'])} or more."
        )
    word, noun = ("Better", "gain") if outcome else ("Worse", "loss")
    if not metric["higher_is_better"]:
        noun = "change"
    return f"{word} than {other} on {rows}: {figures}; the true {noun} lies {span}."


def also(comparison: Mapping[str, Any], higher_is_better: bool) -> str:
    """A further comparison in brief, to follow a full statement."""
    other = CALLED.get(comparison["b"], comparison["b"])
    outcome = better(comparison, higher_is_better)
    if outcome is None:
        return f"Not shown to differ from {other}."
    span = f"{signed(comparison['low'])} to {signed(comparison['high'])}"
    return f"{'Better' if outcome else 'Worse'} than {other}: {span}."
