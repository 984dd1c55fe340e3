"""Curves and histograms as SVG text: pure functions that label their lines directly."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from luthier.evaluate.report.svg import Scale, frame, ticks
from luthier.evaluate.report.words import number, short

Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One curve: its label, points in data units, CSS colour, and whether it is drawn thin (noisy) or strong."""

    label: str
    points: Sequence[Point]
    colour: str
    thin: bool = False


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
    return frame(width, height, title, told, "".join(parts))


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
    return frame(
        width,
        height,
        title,
        f"{name}: {total:,.0f} rows from {short(bars[0][0])} to {short(bars[-1][0] + step)} {x_label}",
        _grid_y(y, width, 3) + _axis_x(x, height, x_label) + drawn,
    )


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
