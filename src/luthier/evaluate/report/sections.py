"""The report's tables and charts as plain values for the template."""

from __future__ import annotations

import math
from typing import Any

from markupsafe import Markup

from luthier.evaluate.curves import points
from luthier.evaluate.report import bars, charts
from luthier.evaluate.report.read import BASELINES, Facts
from luthier.evaluate.report.story import outcome
from luthier.evaluate.report.words import MEANING, number, probability, seconds, short, signed, size
from luthier.evaluate.verdict import smooth

COLOURS = 6


def colour(facts: Facts, name: str) -> str:
    """A variant's colour on every chart; baselines are grey."""
    if name in BASELINES:
        return "var(--s0)"
    order = list(facts.results) or facts.variants
    return f"var(--s{(order.index(name) if name in order else 0) % COLOURS + 1})"


def scores(facts: Facts) -> dict[str, Any]:
    """The table of subjects against metrics, every value with its interval and bar, and why some are absent."""
    metrics = [m for m in facts.summary.get("metrics", {}) if any(m in row for row in facts.scores.values())]
    rows = []
    for name in facts.subjects:
        cells = [_cell(facts, name, metric) for metric in metrics]
        rows.append({"name": name, "baseline": name in BASELINES, "cells": cells})
    reasons: dict[str, list[str]] = {}
    for name, absent in facts.summary.get("absent", {}).items():
        for metric, reason in absent.items():
            reasons.setdefault(f"{name}: {reason}", []).append(facts.metric(metric)["label"])
    return {
        "metrics": [{**facts.metric(m), "meaning": MEANING.get(m, "")} for m in metrics],
        "rows": rows,
        "absent": [f"{', '.join(labels)} of {reason}" for reason, labels in reasons.items()],
    }


def _cell(facts: Facts, name: str, metric: str) -> dict[str, Any] | None:
    score = facts.scores[name].get(metric)
    if score is None:
        return None
    column = [row[metric] for row in facts.scores.values() if metric in row]
    values = {c["value"] for c in column}
    pick = max if facts.metric(metric)["higher_is_better"] else min
    bar = bars.score_bar(score, column, f"{facts.metric(metric)['label']} of {name}", colour(facts, name))
    return {
        "value": number(score["value"]),
        "interval": f"{number(score['low'])} – {number(score['high'])}"
        if score["low"] is not None
        else "too few rows",
        "best": len(values) > 1 and score["value"] == pick(values),
        "bar": Markup(bar),
    }


def ladder(facts: Facts) -> Markup | None:
    """All subjects on the selecting metric, for the first screen."""
    metric = facts.summary.get("select")
    shown = [name for name in facts.subjects if metric in facts.scores[name]]
    if metric is None or not shown:
        return None
    rungs = [
        bars.Rung(
            name,
            facts.scores[name][metric]["value"],
            facts.scores[name][metric]["low"],
            facts.scores[name][metric]["high"],
            colour(facts, name),
            strong=name == facts.summary.get("best"),
        )
        for name in shown
    ]
    return Markup(bars.ladder(rungs, f"{facts.metric(metric)['label']} of every variant and baseline"))


def comparisons(facts: Facts) -> list[dict[str, Any]]:
    """One table for each metric, the selecting one first: who was compared with whom, and what that showed."""
    selected = facts.summary.get("select")
    names = list(dict.fromkeys(c["metric"] for c in facts.comparisons))
    tables = []
    for metric in sorted(names, key=lambda name: name != selected):
        found = [c for c in facts.comparisons if c["metric"] == metric]
        reach = max(abs(c[key]) for c in found for key in ("difference", "low", "high") if c[key] is not None) or 1.0
        rows = [_comparison(facts, c, reach) for c in found]
        tables.append({"metric": facts.metric(metric), "open": metric == selected, "rows": rows})
    return tables


def _comparison(facts: Facts, c: dict[str, Any], reach: float) -> dict[str, Any]:
    result = outcome(facts, c["a"], c["b"], c["metric"])
    bar = bars.interval_bar(
        c["difference"],
        c["low"],
        c["high"],
        (-reach, reach),
        f"{c['a']} minus {c['b']}",
        colour(facts, c["a"]),
        zero=True,
        width=150,
    )
    return {
        "a": c["a"],
        "b": c["b"],
        "difference": signed(c["difference"]),
        "interval": f"{signed(c['low'])} to {signed(c['high'])}",
        "p": probability(c["p"]),
        "detectable": number(c["detectable"]) if c["detectable"] else "–",
        "bar": Markup(bar),
        "reading": {True: "better", False: "worse", None: "not shown"}[result],
    }


def curves(facts: Facts) -> list[dict[str, Any]]:
    """Each variant's training and validation loss on one common scale, with the verdict and the run's figures."""
    seen = [loss for curve in facts.curves.values() for _, loss in points([*curve["train"], *curve["validation"]])]
    seen = sorted(value for value in seen if math.isfinite(value))
    if not seen:
        return []
    span = (seen[0] * 0.95, seen[min(len(seen) - 1, int(0.995 * len(seen)))] * 1.02)
    shown = []
    for name, curve in facts.curves.items():
        train, validation = points(curve["train"]), points(curve["validation"])
        drawn = [charts.Line("training loss", smooth(train) if len(train) > 120 else train, "var(--s0)", thin=True)]
        if validation:
            drawn.append(charts.Line("validation loss", validation, colour(facts, name)))
        best = facts.results[name].get("best_step")
        mark = next((point for point in validation if point[0] == best), None)
        chart = charts.lines(drawn, f"Learning curve of {name}", "step", span, mark)
        shown.append({"name": name, "chart": Markup(chart), "facts": _trained(facts, name), **curve})
    return shown


def _trained(facts: Facts, name: str) -> list[tuple[str, str]]:
    result = facts.results[name]
    share = result.get("trainable_parameters", 0) / (result.get("total_parameters") or 1)
    rows = [
        ("Method", str(result.get("method", name))),
        ("Trained parameters", f"{short(result.get('trainable_parameters', 0))} ({share:.2%})"),
        ("Steps", f"{result.get('steps', 0):,} (best: {result.get('best_step', 0):,})"),
        ("Tokens", short(result.get("tokens", 0))),
        ("Time", seconds(result.get("seconds"))),
        ("Peak memory", size(result.get("peak_memory_bytes"))),
        ("Ended", str(result.get("stopped", "–"))),
    ]
    return rows


def checks(facts: Facts) -> dict[str, Any]:
    """The preflight's findings: those to look at, those that passed, and rows as the model sees them."""
    return {
        "findings": [entry for entry in facts.preflight if entry["status"] != "ok"],
        "passed": [entry for entry in facts.preflight if entry["status"] == "ok"],
        "shown": facts.shown,
    }
