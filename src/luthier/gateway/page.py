"""The traffic as a page: one HTML file that opens anywhere, with the charts of the evaluation's report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import jinja2

import luthier
from luthier.core.files import disk_errors, write_text
from luthier.evaluate.report import render
from luthier.evaluate.report.charts import Line, lines
from luthier.evaluate.report.svg import Scale, frame, ticks
from luthier.evaluate.report.words import money, number, seconds, short
from luthier.monitor.traffic import FOLDER
from luthier.pipeline.folder import RECIPE, run_id
from luthier.recipe.load import load

NAME = "traffic.html"
WIDTH, HEIGHT = 960, 220


def write_page(run: Path, document: dict[str, Any]) -> Path:
    """Write `7-monitor/traffic.html` from what `monitor.summary` found, and return its path."""
    path = run / FOLDER / NAME
    with disk_errors(path):
        write_text(path, page(run_id(load(run / RECIPE)), document))
    return path


def page(name: str, document: dict[str, Any]) -> str:
    """The page as HTML."""
    folders = [Path(__file__).parent, Path(render.__file__).parent]  # the style sheet is the report's
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(folders),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"seconds": seconds_short, "number": number, "money": money}
    shown = {"name": name, "luthier": luthier.__version__, "tiles": tiles(document), "charts": charts(document)}
    span = [time.strftime("%d %B %Y, %H:%M UTC", time.gmtime(document[key])) for key in ("since", "until")]
    return environment.get_template("traffic.html.j2").render(**shown, **document, span=span)


def seconds_short(value: float | None) -> str:
    """A latency: 12 ms, 1.3 s."""
    return f"{value * 1000:.0f} ms" if value is not None and value < 1 else seconds(value)


def tiles(document: dict[str, Any]) -> list[dict[str, str]]:
    """The numbers of the first screen."""
    asked, answered, cost = document["requests"], document["answered"], document["cost"]
    models = document["models"].values()
    up, down = (sum(model[key] for model in models) for key in ("up", "down"))
    tokens = sum(model["answer_tokens"] for model in models)
    each = cost["usd_per_1000_answers"]
    return [
        {"label": "Requests", "value": f"{asked:,}", "note": f"{asked - answered:,} of them without an answer"},
        {"label": "Tokens written", "value": short(tokens), "note": f"by {len(models)} models"},
        {"label": "Ratings", "value": f"{up} up", "note": f"{down} down"},
        {"label": "Cost", "value": money(cost["usd"]), "note": f"{money(each)} for 1,000 answers"},
    ]


def charts(document: dict[str, Any]) -> list[dict[str, str]]:
    """What is drawn over time: requests, latency, tokens; a title, words below it, and the drawing of each."""
    width, rows = document["series"]["width"], document["series"]["bars"]
    if not rows:
        return []
    hours = [(bar["start"] - rows[0]["start"]) / 3600 for bar in rows]
    each = f"each bar is {seconds(width)}" if width < 3600 else f"each bar is {width // 3600} h"
    answered = [(bar["answered"], bar["errors"]) for bar in rows]
    latency = [
        Line(label, [(h, bar["seconds"][key]) for h, bar in zip(hours, rows, strict=True) if bar["seconds"]], colour)
        for label, key, colour in (("median", "p50", "var(--s1)"), ("90th percentile", "p90", "var(--s2)"))
    ]
    top = max((y for line in latency for _, y in line.points), default=1.0)
    tokens = [(bar["answer_tokens"], bar["prompt_tokens"]) for bar in rows]
    return [
        {
            "title": "Requests",
            "words": f"Answered, and in red refused or broken; {each}.",
            "svg": bars(answered, hours, width / 3600, "Requests", ("var(--s1)", "var(--bad)")),
        },
        {
            "title": "Seconds to the whole answer",
            "words": "From the request's arrival to its last token.",
            "svg": lines(latency, "Latency", "hours", y_range=(0.0, top * 1.05), size=(WIDTH, HEIGHT)),
        },
        {
            "title": "Tokens",
            "words": f"Written, and in grey read; {each}.",
            "svg": bars(tokens, hours, width / 3600, "Tokens", ("var(--s3)", "var(--s0)")),
        },
    ]


def bars(
    values: list[tuple[int, int]], hours: list[float], width: float, title: str, colours: tuple[str, str]
) -> str:
    """Two numbers stacked on each other, for every moment; `width` and `hours` are in hours from the first."""
    most = max(max(map(sum, values)), 1)
    x, y = Scale(0.0, hours[-1] + width, 44, WIDTH - 14), Scale(0.0, most, HEIGHT - 36, 12)
    grid = "".join(
        f'<line class="grid" x1="44" x2="{WIDTH - 14}" y1="{y(v)}" y2="{y(v)}"/>'
        f'<text class="tick" x="38" y="{y(v) + 3.5}" text-anchor="end">{short(v)}</text>'
        for v in ticks(0.0, most, 4)
    )
    along = "".join(
        f'<text class="tick" x="{x(v)}" y="{HEIGHT - 22}" text-anchor="middle">{short(v)}</text>'
        for v in ticks(0.0, x.high, 6)
    )
    wide = max(x(width) - x(0) - 1, 1.0)
    drawn = ""
    for hour, pair in zip(hours, values, strict=True):
        below = 0
        for count, colour in zip(pair, colours, strict=True):
            if count:
                tall = y(below) - y(below + count)
                drawn += (
                    f'<rect style="fill:{colour}" x="{x(hour)}" y="{y(below + count)}" width="{wide:.1f}" '
                    f'height="{tall:.1f}"/>'
                )
            below += count
    label = f'<text class="label" x="{WIDTH - 14}" y="{HEIGHT - 4}" text-anchor="end">hours</text>'
    axis = f'<line class="axis" x1="44" x2="{WIDTH - 14}" y1="{HEIGHT - 36}" y2="{HEIGHT - 36}"/>'
    first, second = (sum(column) for column in zip(*values, strict=True))
    told = f"{first:,} and {second:,} in all, at most {most:,} at once"
    return frame(WIDTH, HEIGHT, title, told, grid + axis + along + drawn + label)
