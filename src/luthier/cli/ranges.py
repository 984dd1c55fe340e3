"""The page of `plan --lr-range`: a chart of the loss over the learning rate by variant, and what it suggests."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from rich.markup import escape

from luthier.cli.scores import console

WIDTH, HEIGHT = 60, 8  # characters of a chart
TWICE = 2.0  # a chart ends at this many times its first loss: above, the shape below would be flat


def show_ranges(document: dict[str, Any]) -> None:
    """A chart and a line for each variant."""
    page = console()
    for name, found in document["lr_range"].items():
        page.print()
        page.print(f"  [bold]{escape(name)}[/]")
        for line in chart(found["rates"], found["smoothed"]):
            page.print(f"  {line}")
        page.print(f"  {escape(advice(found))}", soft_wrap=True)


def chart(rates: Sequence[float], losses: Sequence[float]) -> list[str]:
    """Lines of a chart: the highest and the lowest loss on the left, the first and the last rate below.

    A column stands for some neighbouring rates and shows the mean of their losses.
    """
    if not losses:
        return []
    width = min(WIDTH, len(losses))
    edges = [round(i * len(losses) / width) for i in range(width + 1)]
    columns = [sum(losses[a:b]) / (b - a) for a, b in pairwise(edges)]
    low, high = min(columns), min(max(columns), TWICE * columns[0])
    rows = [round((HEIGHT - 1) * (min(value, high) - low) / ((high - low) or 1)) for value in columns]
    labels = {HEIGHT - 1: f"{high:.3g}", 0: f"{low:.3g}"}
    lines = [
        f"{labels.get(row, ''):>8} │{''.join('●' if at == row else ' ' for at in rows)}"
        for row in range(HEIGHT - 1, -1, -1)
    ]
    first, last = f"{rates[0]:.0e}", f"{rates[-1]:.0e}"
    return [*lines, f"{'':>8} └{'─' * width}", f"{'':>10}{first}{last:>{max(width - len(first), len(last) + 1)}}"]


def advice(found: dict[str, Any]) -> str:
    """What the test suggests, in words."""
    if found["suggested"] is None:
        return "no suggestion: the loss never fell; look at the batches with `luthier check`"
    told = f"train.learning_rate: {found['suggested']:.1e} (a tenth of where the loss was lowest"
    return f"{told}; it fell fastest at {found['steepest']:.1e})"
