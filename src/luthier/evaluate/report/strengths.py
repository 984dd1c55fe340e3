"""Who is good at what, and what each forgot: one table of subjects against sources and general text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from luthier.evaluate.report import bars
from luthier.evaluate.report.read import BASELINES, Facts
from luthier.evaluate.report.words import better, listed, number, signed

GENERAL = "General text"
MOODS = {True: "good", False: "bad", None: "soft"}


@dataclass(frozen=True)
class Column:
    """One source, or the general text: its metric, and its scores and comparisons as stage 5 wrote them."""

    title: str
    label: str
    higher_is_better: bool
    rows: int
    scores: Mapping[str, Mapping[str, Any]]
    comparisons: list[dict[str, Any]]

    @property
    def best(self) -> float:
        """The best value of all."""
        return (max if self.higher_is_better else min)(score["value"] for score in self.scores.values())

    def against_base(self, name: str) -> dict[str, Any] | None:
        """The variant compared with the base."""
        return next((c for c in self.comparisons if c["a"] == name and c["b"] == BASELINES[0]), None)


def columns(facts: Facts) -> list[Column]:
    """The sources in the recipe's order, then the general text."""
    found = [_column(facts, source, body) for source, body in facts.by_source.items()]
    return found + ([_column(facts, GENERAL, facts.forgetting)] if facts.forgetting else [])


def _column(facts: Facts, title: str, body: Mapping[str, Any]) -> Column:
    higher = body["metric"] != "loss" and facts.metric(body["metric"])["higher_is_better"]
    label = "Loss" if body["metric"] == "loss" else facts.metric(body["metric"])["label"]
    return Column(title, label, higher, body["rows"], body["scores"], body["comparisons"])


def best_at(facts: Facts, name: str) -> str:
    """The sources on which nothing measured is above the variant, as a sentence; empty where there are none."""
    found = [c.title for c in columns(facts) if c.title in facts.by_source and _value(c, name) == c.best]
    return f"Best of all on {listed(found)}." if found else ""


def _value(column: Column, name: str) -> float | None:
    return column.scores[name]["value"] if name in column.scores else None


def table(facts: Facts, colours: Mapping[str, str]) -> dict[str, Any] | None:
    """The table for the template, each cell with its interval and its difference to the base; None without any."""
    shown = columns(facts)
    if not shown:
        return None
    names = [name for name in facts.subjects if any(name in column.scores for column in shown)]
    return {
        "columns": shown,
        "forgetting": bool(facts.forgetting),
        "rows": [
            {
                "name": name,
                "baseline": name in BASELINES,
                "colour": colours[name],
                "cells": [_cell(column, name, colours[name]) for column in shown],
            }
            for name in names
        ],
    }


def _cell(column: Column, name: str, colour: str) -> dict[str, Any] | None:
    score = column.scores.get(name)
    if score is None:
        return None
    title = f"{column.label} of {name} on {column.title}"
    drawn = bars.score_bar(score, column.scores.values(), title, colour)
    found = column.against_base(name)
    return {
        "value": number(score["value"]),
        "interval": f"{number(score['low'])} – {number(score['high'])}" if score["low"] is not None else "",
        "best": len({s["value"] for s in column.scores.values()}) > 1 and score["value"] == column.best,
        "bar": Markup(drawn),
        "change": _change(found),
        "mood": MOODS[better(found, column.higher_is_better) if found else None],
    }


def _change(found: Mapping[str, Any] | None) -> tuple[str, str] | None:
    """The difference to the base and its interval; None for the base itself."""
    if found is None or found["low"] is None:
        return None
    return signed(found["difference"]), f"{signed(found['low'])} to {signed(found['high'])}"
