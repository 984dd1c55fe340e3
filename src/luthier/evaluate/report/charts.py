"""Small charts as SVG text: curves, histograms, interval bars. Pure functions; colours are CSS variables.

Every chart carries a title and a description for those who cannot see it, and labels its lines directly. Sizes are
in pixels at which the text is readable; the page scales them down but not up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from luthier.evaluate.report.words import number, short

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One curve: its label, points in data units, CSS colour, and whether it is drawn thin (noisy) or strong."""

    label: str
    points: Sequence[Point]
    colour: str
    thin: bool = False


@dataclass(frozen=True)
class Rung:
    """One bar of a ladder; `low` and `high` are None where the rows are too few for an interval."""

    label: str
    value: float
    low: float | None
    high: float | None
    colour: str
    strong: bool = False


@dataclass(frozen=True)
class Scale:
    """A linear map from data to pixels."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        share = (value - self.low) / ((self.high - self.low) or 1.0)
        return round(self.start + share * (self.end - self.start), 1)


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) within the range."""
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    raw = (high - low) / count
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def lines(
    curves: Sequence[Line],
    title: str,
    x_label: str,
    y_range: tuple[float, float] | None = None,
    mark: Point | None = None,
    size: tuple[int, int] = (360, 220),
) -> str:
    """Curves over a common axis; `mark` rings one point (the chosen checkpoint)."""
    width, height = size
    finite = [(x, y) for curve in curves for x, y in curve.points if math.isfinite(y)]
    if not finite:
        return ""
    low, high = y_range or (min(y for _, y in finite), max(y for _, y in finite))
    high = high if high > low else low + 1.0
    x = Scale(min(0, *(p[0] for p in finite)), max(p[0] for p in finite), 40, width - 14)
    y = Scale(low, high, height - 36, 12)
    parts = [_grid_y(y, width, 5), _axis_x(x, height, x_label), _legend(curves, height)]
    for curve in curves:
        shown = [(px, min(max(py, low), high)) for px, py in curve.points if math.isfinite(py)]
        path = "M" + "L".join(f"{x(px)} {y(py)}" for px, py in shown) if shown else ""
        style = "thin" if curve.thin else "strong"
        parts.append(f'<path class="line {style}" style="stroke:{curve.colour}" d="{path}"/>')
    if mark is not None:
        colour = curves[-1].colour
        parts.append(f'<circle class="mark" style="stroke:{colour}" cx="{x(mark[0])}" cy="{y(mark[1])}" r="4.5"/>')
    told = "; ".join(
        f"{c.label} from {number(c.points[0][1])} to {number(c.points[-1][1])}" for c in curves if c.points
    )
    return _svg(width, height, title, told, "".join(parts))


def histogram(
    values: Mapping[str, Sequence[tuple[float, float]]],
    title: str,
    x_label: str,
    colour: str,
    size: tuple[int, int] = (360, 150),
) -> str:
    """Bars of one named series of (left edge, count); the last bar is as wide as the others."""
    width, height = size
    (name, bars), *_ = values.items()
    if not bars:
        return ""
    step = bars[1][0] - bars[0][0] if len(bars) > 1 else 1.0
    x = Scale(bars[0][0], bars[-1][0] + step, 40, width - 14)
    y = Scale(0, max(count for _, count in bars) or 1.0, height - 36, 12)
    drawn = "".join(
        f'<rect style="fill:{colour}" x="{x(left)}" y="{y(count)}" '
        f'width="{max(0.5, round(x(left + step) - x(left) - 1, 1))}" height="{round(y(0) - y(count), 1)}"/>'
        for left, count in bars
        if count
    )
    total = sum(count for _, count in bars)
    return _svg(
        width,
        height,
        title,
        f"{name}: {total:,.0f} rows from {short(bars[0][0])} to {short(bars[-1][0] + step)} {x_label}",
        _grid_y(y, width, 3) + _axis_x(x, height, x_label) + drawn,
    )


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
    return _svg(width, height, title, told, rail + drawn + point, "bar")


def _legend(curves: Sequence[Line], height: int) -> str:
    parts, left = [], 40
    for curve in curves:
        style = "thin" if curve.thin else "strong"
        parts.append(
            f'<path class="line {style}" style="stroke:{curve.colour}" d="M{left} {height - 8}h16"/>'
            f'<text class="label" x="{left + 21}" y="{height - 4}">{escape(curve.label)}</text>'
        )
        left += 40 + 6 * len(curve.label)
    return "".join(parts)


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
    return _svg(width, 32 * len(rows) + 2, title, told, "".join(parts), "chart ladder")


def _clipped(label: str, most: int = 12) -> str:
    return label if len(label) <= most else f"{label[: most - 1]}…"


def _grid_y(y: Scale, width: int, count: int = 4) -> str:
    return "".join(
        f'<line class="grid" x1="40" x2="{width - 14}" y1="{y(v)}" y2="{y(v)}"/>'
        f'<text class="tick" x="34" y="{y(v) + 3.5}" text-anchor="end">{short(v)}</text>'
        for v in ticks(y.low, y.high, count)
    )


def _axis_x(x: Scale, height: int, label: str) -> str:
    shown = "".join(
        f'<text class="tick" x="{x(v)}" y="{height - 22}" text-anchor="middle">{short(v)}</text>'
        for v in ticks(x.low, x.high, 5)
    )
    return (
        f'<line class="axis" x1="{x.start}" x2="{x.end}" y1="{height - 36}" y2="{height - 36}"/>{shown}'
        f'<text class="label" x="{x.end}" y="{height - 4}" text-anchor="end">{escape(label)}</text>'
    )


def _svg(width: int, height: int, title: str, told: str, body: str, kind: str = "chart") -> str:
    label, heading, text = escape(f"{title}: {told}"), escape(title), escape(told)
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" style="max-width:{width}px" '
        f'aria-label="{label}"><title>{heading}</title><desc>{text}</desc>{body}</svg>'
    )
