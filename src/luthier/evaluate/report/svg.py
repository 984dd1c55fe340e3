"""What every chart is made of: a scale, round ticks, a frame with a title. Colours are CSS variables.

Every chart carries a title and a description for those who cannot see it. Sizes are in pixels at which the text is
readable; the page scales charts down to a narrow column.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape


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


def frame(width: int, height: int, title: str, told: str, body: str, kind: str = "chart") -> str:
    """The SVG element around a chart's body; `told` describes what it shows."""
    label, heading, text = escape(f"{title}: {told}"), escape(title), escape(told)
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" role="img" style="max-width:{width}px" '
        f'aria-label="{label}"><title>{heading}</title><desc>{text}</desc>{body}</svg>'
    )
