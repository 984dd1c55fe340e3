"""The report's account of data, plan and cost as plain values for the template."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from luthier.evaluate.report import charts
from luthier.evaluate.report.read import Facts
from luthier.evaluate.report.story import plain_name
from luthier.evaluate.report.words import money, seconds, size

WITHIN = 0.25  # a prediction is called good when what happened lies within a quarter of it, and memory never above it


def data(facts: Facts) -> dict[str, Any] | None:
    """Where the rows went, how long they are, and what the data card says of them."""
    card = facts.data
    if not card:
        return None
    counts = card["counts"]
    removed = [f"{number:,} removed by {setting}" for setting, number in counts["removed"].items() if number]
    lost = ", ".join([f"{counts['rejected']:,} rejected", *(removed or ["none removed"])])
    splits = ", ".join(f"{part['rows']:,} {name}" for name, part in card["splits"].items())
    return {
        "balance": f"{counts['in']:,} rows came in: {counts['kept']:,} kept ({splits}), {lost}.",
        "charts": _lengths(card),
        "facts": _data_facts(card),
    }


def _lengths(card: dict[str, Any]) -> list[dict[str, Any]]:
    shown = []
    train = card["splits"].get("train", {})
    for part in ("input", "answer"):
        histogram = train.get(f"{part}_tokens")
        if not histogram or not sum(histogram["counts"]):
            continue
        bars = list(zip(histogram["edges"], histogram["counts"], strict=False))
        title = f"Length of the training {part}s"
        svg = charts.histogram({part: bars}, title, "tokens", "var(--s1)")
        note = f"median {histogram['median']:,.0f}, 95% within {histogram['p95']:,.0f}, longest {histogram['max']:,}"
        shown.append({"title": title, "note": note, "svg": Markup(svg)})
    return shown


def _data_facts(card: dict[str, Any]) -> list[tuple[str, str]]:
    facts = []
    for name, source in card["sources"].items():
        counts = source["counts"]
        layout = f", {source['layout']}" if source.get("layout") else ""
        facts.append(
            (name, f"{plain_name(source['source'])}{layout}: {counts['kept']:,} of {counts['in']:,} rows kept")
        )
    train = card["splits"].get("train", {})
    if "trained_tokens" in train:
        share = f"{train['trained_share']:.0%} of {train['tokens']:,}"
        facts.append(("Trained tokens", f"{train['trained_tokens']:,} ({share})"))
    facts.append(("Exact duplicates", f"{card['duplicates']['rows']:,}"))
    near, leaks = card["near_duplicates"], card["leaks"]
    if near["rows"] is not None:
        facts.append((f"Near-duplicates (Jaccard {near['similarity']:g})", f"{near['rows']:,}"))
    looked = "" if leaks["near"] is None else f", {leaks['near']:,} near"
    facts.append(("Rows in two splits", f"{leaks['exact']:,} exact{looked}"))
    facts += [(f"Rejected: {reason}", f"{count:,}") for reason, count in card["rejected"]["reasons"].items()]
    return facts


def plan(facts: Facts) -> list[dict[str, Any]]:
    """Predicted beside actual memory, time and cost: each variant, all of training, and the evaluation."""
    estimate, results = facts.estimate, facts.results
    if not estimate or not results:
        return []
    price = float(facts.recipe.get("plan", {}).get("usd_per_hour", 0))
    rows = []
    for name, predicted in estimate.get("variants", {}).items():
        if name in results:
            rows.append(
                _compared(name, predicted, results[name]["peak_memory_bytes"], results[name]["seconds"], price)
            )
    if len(results) > 1 and len(rows) == len(results):
        memory = max(result["peak_memory_bytes"] for result in results.values())
        took = sum(result["seconds"] for result in results.values())
        rows.append(_compared("all training", estimate, memory, took, price))
    evaluated = facts.manifests.get("5-evaluate")
    if evaluated and "evaluation" in estimate:
        rows.append(_compared("evaluation", estimate["evaluation"], None, evaluated["seconds"], price))
    return rows


def _compared(
    name: str, predicted: dict[str, Any], memory: float | None, took: float, price: float
) -> dict[str, Any]:
    return {
        "name": name,
        "pairs": [
            _pair(predicted.get("memory_bytes"), memory, size, most=1.0),
            _pair(predicted.get("seconds"), took, seconds, most=1 + WITHIN),
            _pair(predicted.get("usd"), took / 3600 * price, money, most=None),
        ],
    }


def _pair(
    predicted: float | None, actual: float | None, form: Callable[[float | None], str], most: float | None
) -> dict[str, str]:
    """Both values and how far what happened stands from what was predicted; `most` is the largest good ratio."""
    shown = {"predicted": form(predicted), "actual": form(actual), "ratio": "", "mood": "soft"}
    if most is None or not predicted or actual is None:
        return shown
    ratio = actual / predicted
    good = 1 - WITHIN <= ratio <= most
    return {**shown, "ratio": f"{ratio - 1:+.0%}".replace("-", "−"), "mood": "good" if good else "bad"}


def costs(facts: Facts) -> list[dict[str, str]]:
    """Time and money of every sealed stage, and of all together."""
    price = float(facts.recipe.get("plan", {}).get("usd_per_hour", 0))
    rows: list[tuple[str, float]] = [(_called(name), m["seconds"]) for name, m in facts.manifests.items()]
    if not rows:
        return []
    rows.append(("All stages", sum(took for _, took in rows)))
    return [{"name": name, "time": seconds(took), "usd": money(took / 3600 * price)} for name, took in rows]


def _called(folder: str) -> str:
    stage, *parts = folder.split("/")
    return " ".join((stage.split("-", 1)[-1].capitalize(), *parts))


def missing(facts: Facts) -> Sequence[str]:
    """The stages that the run folder holds nothing of."""
    there = {
        "data": bool(facts.data),
        "model": bool(facts.base),
        "plan": bool(facts.preflight or facts.estimate),
        "training": bool(facts.results),
        "evaluation": bool(facts.scores),
    }
    return [name for name, found in there.items() if not found]
