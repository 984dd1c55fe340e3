"""Values with their intervals as bars: a small one for a table's cell, and the ladder of the first screen."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from luthier.evaluate.report.svg import Scale, frame
from luthier.evaluate.report.words import number


@dataclass(frozen=True)
class Rung:
    """One bar of a ladder; `low` and `high` are None where the rows are too few for an interval."""

    label: str
    value: float
    low: float | None
    high: float | None
    colour: str
    strong: bool = False


def interval_bar(
    value: float,
    low: float | None,
    high: float | None,
    span: tuple[float, float],
    title: str,
    colour: str,
    zero: bool = False,
    width: int = 132,
) -> str:
    """A dot with its interval on a common span; `zero` draws the line of no difference."""
    height = 18
    x = Scale(span[0], span[1], 6, width - 6)
    dot = x(min(max(value, span[0]), span[1]))
    drawn = f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="1" y2="17"/>' if zero else ""
    told = number(value)
    if low is not None and high is not None:
        left, right = (x(min(max(v, span[0]), span[1])) for v in (low, high))
        drawn += f'<line class="range" style="stroke:{colour}" x1="{left}" x2="{right}" y1="9" y2="9"/>'
        drawn += "".join(
            f'<line class="cap" style="stroke:{colour}" x1="{at}" x2="{at}" y1="5" y2="13"/>' for at in (left, right)
        )
        told += f", interval from {number(low)} to {number(high)}"
    rail = f'<line class="rail" x1="4" x2="{width - 4}" y1="9" y2="9"/>'
    point = f'<circle style="fill:{colour}" cx="{dot}" cy="9" r="3.6"/>'
    return frame(width, height, title, told, rail + drawn + point, "bar")


def score_bar(score: Mapping[str, Any], column: Iterable[Mapping[str, Any]], title: str, colour: str) -> str:
    """A score's bar on the span of all scores of its column, zero included."""
    edges = [other[key] for other in column for key in ("value", "low", "high") if other[key] is not None]
    span = (min(0.0, *edges), max(edges) or 1.0)
    return interval_bar(score["value"], score["low"], score["high"], span, title, colour)


def ladder(rows: Sequence[Rung], title: str, width: int = 420) -> str:
    """One bar for each subject on a common scale from zero, with its interval and its value beside it."""
    finite = [row.high if row.high is not None else row.value for row in rows]
    x = Scale(0.0, max(finite, default=1.0) or 1.0, 92, width - 58)
    parts = []
    for i, row in enumerate(rows):
        middle = 17 + i * 32
        end = x(max(row.value, 0.0))
        parts.append(
            f'<text class="name" x="84" y="{middle + 4}" text-anchor="end">{escape(_clipped(row.label))}</text>'
            f'<rect style="fill:{row.colour}" x="92" y="{middle - 8}" width="{max(end - 92, 1):.1f}" height="16"/>'
        )
        right = end
        if row.low is not None and row.high is not None:
            left, right = x(max(row.low, 0.0)), x(row.high)
            along = f'x1="{left}" x2="{right}" y1="{middle}" y2="{middle}"'
            parts.append(f'<line class="halo" {along}/><line class="whisker" {along}/>')
        weight = ' style="font-weight:700"' if row.strong else ""
        parts.append(
            f'<text class="name" x="{max(right, end) + 8}" y="{middle + 4}"{weight}>{number(row.value)}</text>'
        )
    told = "; ".join(f"{row.label} {number(row.value)}" for row in rows)
    return frame(width, 32 * len(rows) + 2, title, told, "".join(parts), "chart ladder")


def _clipped(label: str, most: int = 12) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}…"
