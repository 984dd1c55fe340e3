"""The traffic in numbers: volume, latency, tokens, errors, the shift of lengths, ratings, cost."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from luthier.monitor.baseline import read_baseline
from luthier.monitor.lengths import shift
from luthier.monitor.read import Traffic, read_traffic
from luthier.monitor.traffic import Shape
from luthier.recipe.load import load

DAY = 86_400.0
BARS = 48  # of a chart over time, at most
WIDTHS = (60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 24 * 3600)  # seconds of a bar
COMPARED = 2000  # newest answers whose lengths are compared
FEW = 20  # below it lengths are not compared
LEVEL = 0.05  # chance that any of the comparisons calls a shift where there is none


def summarise(run: Path, days: float = 7.0, now: float | None = None) -> dict[str, Any]:
    """What `luthier monitor --json` prints, over the last `days`; UserError where nothing was ever served."""
    until = time.time() if now is None else now
    traffic = read_traffic(run, until - days * DAY, until)
    answered = traffic.answered
    return {
        "since": traffic.since,
        "until": traffic.until,
        "requests": len(traffic.requests),
        "answered": len(answered),
        "errors": _counts(f"{s.status} {s.code}".strip() for s in traffic.requests if s.status != 200),
        "stop": _counts(shape.stop for shape in answered),
        "keys": _counts(shape.key or "none" for shape in traffic.requests),
        "models": {name: _model(traffic, name) for name in sorted({s.model for s in traffic.requests if s.model})},
        "lengths": _lengths(answered, read_baseline(run)),
        "series": _series(traffic),
        "cost": _cost(traffic, load(run / "recipe.yaml").plan.usd_per_hour),
    }


def _counts(values: Any) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _model(traffic: Traffic, name: str) -> dict[str, Any]:
    """One model's volume, times in seconds, tokens and ratings."""
    asked = [shape for shape in traffic.requests if shape.model == name]
    answered = [shape for shape in asked if shape.status == 200]
    ratings = Counter(rating.rating for rating in traffic.feedback if rating.model == name)
    return {
        "requests": len(asked),
        "answered": len(answered),
        "seconds": percentiles([shape.seconds for shape in answered]),
        "first_token_seconds": percentiles(
            [shape.first_token_seconds for shape in answered if shape.first_token_seconds is not None]
        ),
        "prompt_tokens": sum(shape.prompt_tokens for shape in asked),
        "answer_tokens": sum(shape.answer_tokens for shape in asked),
        "up": ratings["up"],
        "down": ratings["down"],
    }


def percentiles(values: Sequence[float]) -> dict[str, float] | None:
    """The median, the 90th and the 99th percentile; None of nothing."""
    if not values:
        return None
    p50, p90, p99 = np.quantile(np.asarray(values), [0.5, 0.9, 0.99])
    return {"p50": float(p50), "p90": float(p90), "p99": float(p99)}


def _lengths(answered: list[Shape], baseline: dict[str, Any] | None) -> list[dict[str, Any]]:
    """For each variant how long prompts and answers are, beside those of the test rows."""
    if baseline is None:
        return []
    found = []
    for variant in sorted({shape.variant for shape in answered}):
        shapes = [shape for shape in answered if shape.variant == variant][-COMPARED:]
        pairs = {
            "prompt": ("tokens", [s.prompt_tokens for s in shapes], baseline["prompt_tokens"]),
            "answer": (
                "characters",
                [s.answer_characters for s in shapes],
                baseline["answer_characters"].get(variant, []),
            ),
        }
        for what, (unit, seen, expected) in pairs.items():
            if expected:
                found.append({"variant": variant, "what": what, "unit": unit, **_compared(seen, expected)})
    for entry in found:
        entry["shifted"] = None if entry["p"] is None else entry["p"] * len(found) < LEVEL
    return found


def _compared(seen: list[int], expected: list[int]) -> dict[str, Any]:
    enough = min(len(seen), len(expected)) >= FEW
    moved = shift(np.asarray(seen), np.asarray(expected)) if enough else None
    return {
        "traffic": {"n": len(seen), "mean": float(np.mean(seen)), **(percentiles(seen) or {})},
        "baseline": {"n": len(expected), "mean": float(np.mean(expected)), **(percentiles(expected) or {})},
        "distance": moved.distance if moved else None,
        "p": moved.p if moved else None,
    }


def _series(traffic: Traffic) -> dict[str, Any]:
    """Bars over time from the first request on: their width in seconds, and of each what happened in it."""
    if not traffic.requests:
        return {"width": WIDTHS[0], "bars": []}
    first = traffic.requests[0].time
    span = traffic.until - first
    width = next((w for w in WIDTHS if span / w < BARS), math.ceil(span / BARS / DAY) * int(DAY))
    start = math.floor(first / width) * width
    bars: list[list[Shape]] = [[] for _ in range(int((traffic.until - start) // width) + 1)]
    for shape in traffic.requests:
        bars[int((shape.time - start) // width)].append(shape)
    return {"width": width, "bars": [_bar(start + i * width, shapes) for i, shapes in enumerate(bars)]}


def _bar(start: float, shapes: list[Shape]) -> dict[str, Any]:
    answered = [shape for shape in shapes if shape.status == 200]
    return {
        "start": start,
        "answered": len(answered),
        "errors": len(shapes) - len(answered),
        "prompt_tokens": sum(shape.prompt_tokens for shape in shapes),
        "answer_tokens": sum(shape.answer_tokens for shape in shapes),
        "seconds": percentiles([shape.seconds for shape in answered]),
    }


def _cost(traffic: Traffic, usd_per_hour: float) -> dict[str, Any]:
    """What the machine cost while the server was up, at the recipe's `plan.usd_per_hour`, idle time included."""
    hours = sum(end - start for start, end in traffic.sessions) / 3600
    usd, answers = hours * usd_per_hour, len(traffic.answered)
    tokens = sum(shape.answer_tokens for shape in traffic.requests)
    return {
        "hours": hours,
        "usd": usd,
        "usd_per_1000_answers": usd / answers * 1000 if answers else None,
        "usd_per_million_tokens": usd / tokens * 1e6 if tokens else None,
    }
