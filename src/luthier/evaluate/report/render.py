"""report.html: one file that opens anywhere, made from the files of a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

import luthier
from luthier.core.files import write_text
from luthier.evaluate.report import ledger, samples, sections, story, strengths
from luthier.evaluate.report.read import Facts, read_run
from luthier.evaluate.report.words import listed, number


def environment() -> jinja2.Environment:
    """The package's templates; everything put into HTML is escaped, and an unknown name is an error."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=lambda name: name is not None and ".html" in name,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def write_report(run: Path) -> Path:
    """Write report.html into a run folder from what is there; stages that were not run are left out, and said."""
    path = run / "report.html"
    write_text(path, render(read_run(run)))
    return path


def render(facts: Facts) -> str:
    """The report as HTML."""
    shown = {
        **story_of(facts),
        "ladder": sections.ladder(facts),
        "scores": _coloured_scores(facts),
        "strengths": strengths.table(facts, {name: sections.colour(facts, name) for name in facts.subjects}),
        "comparisons": sections.comparisons(facts),
        "resamples": f"{facts.summary.get('resamples', 0):,}",
        "confidence": f"{facts.summary.get('confidence', 0.95):.0%}",
        "curves": sections.curves(facts),
        "samples": _coloured_samples(facts),
        "ranked_by": facts.metric(samples.order_by(facts) or "")["label"],
        "plan": ledger.plan(facts),
        "costs": ledger.costs(facts),
        "data": ledger.data(facts),
        "checks": sections.checks(facts),
    }
    shown["contents"] = contents(shown)
    return environment().get_template("report.html.j2").render(shown)


def story_of(facts: Facts) -> dict[str, Any]:
    """What stands on the first screen and at the end."""
    newest = max(facts.manifests.values(), key=lambda m: m["created"], default=None)
    return {
        "name": facts.name,
        "created": newest["created"].replace("T", " ").removesuffix("Z") + " UTC" if newest else "",
        "headline": story.headline(facts),
        "done": story.done(facts),
        "rows": f"{story.test_rows(facts):,}",
        "tiles": story.tiles(facts),
        "remarks": story.remarks(facts),
        "warnings": story.warnings(facts),
        "recipe": facts.recipe_text,
        "versions": list(newest["versions"].items()) if newest else [],
        "missing": listed(list(ledger.missing(facts))) if ledger.missing(facts) else "",
        "luthier": luthier.__version__,
    }


def contents(shown: dict[str, Any]) -> list[tuple[str, str]]:
    """The anchors and names of the sections that are there."""
    there = {
        "scores": ("Scores", bool(shown["scores"]["rows"])),
        "strengths": ("Who is good at what", bool(shown["strengths"])),
        "comparisons": ("Comparisons", bool(shown["comparisons"])),
        "curves": ("Learning curves", bool(shown["curves"])),
        "answers": ("Answers", bool(shown["samples"])),
        "plan": ("Plan and cost", bool(shown["plan"] or shown["costs"])),
        "data": ("Data", bool(shown["data"])),
        "preflight": ("Preflight", any(shown["checks"].values())),
        "reproduce": ("Do it again", True),
    }
    return [(anchor, label) for anchor, (label, found) in there.items() if found]


def _coloured_scores(facts: Facts) -> dict[str, Any]:
    table = sections.scores(facts)
    return {**table, "rows": [{**row, "colour": sections.colour(facts, row["name"])} for row in table["rows"]]}


def _coloured_samples(facts: Facts) -> list[dict[str, Any]]:
    metric = samples.order_by(facts)
    chosen = samples.choose(facts)
    for sample in chosen:
        for answer in sample["answers"]:
            value = answer["scores"].get(metric)
            answer["colour"] = sections.colour(facts, answer["name"])
            answer["score"] = number(value) if value is not None else ""
    return chosen
