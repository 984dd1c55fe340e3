"""The report's account of data, plan and cost as plain values for the template."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from luthier.evaluate.report import charts
from luthier.evaluate.report.read import Facts
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
        note = f"median {histogram['median']:,.0f}, 95 % within {histogram['p95']:,.0f}, longest {histogram['max']:,}"
        shown.append({"title": title, "note": note, "svg": Markup(svg)})
    return shown


def _data_facts(card: dict[str, Any]) -> list[tuple[str, str]]:
    facts = []
    for name, source in card["sources"].items():
        counts = source["counts"]
        layout = f", {source['layout']}" if source.get("layout") else ""
        facts.append((name, f"{source['source']}{layout}: {counts['kept']:,} of {counts['in']:,} rows kept"))
    train = card["splits"].get("train", {})
    if "trained_tokens" in train:
        share = f"{train['trained_share']:.0%} of {train['tokens']:,}"
        facts.append(("Trained tokens", f"{train['trained_tokens']:,} ({share})"))
    facts.append(("Exact duplicates", f"{card['duplicates']['rows']:,}"))
    near = card["near_duplicates"]
    facts.append((f"Near-duplicates (Jaccard {near['similarity']:g})", f"{near['rows']:,}"))
    facts.append(("Rows in two splits", f"{card['leaks']['exact']:,} exact, {card['leaks']['near']:,} near"))
    facts += [(f"Rejected: {reason}", f"{count:,}") for reason, count in card["rejected"]["reasons"].items()]
    return facts


def plan(facts: Facts) -> list[dict[str, str]]:
    """Predicted beside actual memory, time and cost, for the whole of training and for each variant."""
    if not facts.estimate or not facts.results:
        return []
    price = float(facts.recipe.get("plan", {}).get("usd_per_hour", 0))
    results = list(facts.results.values())
    rows = _compared(
        "all variants",
        facts.estimate,
        max((r.get("peak_memory_bytes", 0) for r in results), default=0),
        sum(r.get("seconds", 0) for r in results),
        price,
    )
    for name, predicted in facts.estimate.get("variants", {}).items():
        if name in facts.results and len(results) > 1:
            result = facts.results[name]
            rows += _compared(name, predicted, result.get("peak_memory_bytes", 0), result.get("seconds", 0), price)
    return rows


def _compared(variant: str, predicted: dict[str, Any], memory: float, took: float, price: float) -> list[dict]:
    rows = []
    for key, label, actual, form in (
        ("memory_bytes", "Peak memory", memory, size),
        ("seconds", "Training time", took, seconds),
        ("usd", "Training cost", took / 3600 * price, money),
    ):
        guess = predicted.get(key)
        if guess is None:
            continue
        ratio = actual / guess if guess else 0.0
        good = ratio >= 1 - WITHIN and ratio <= (1 if key == "memory_bytes" else 1 + WITHIN)
        rows.append(
            {
                "variant": variant,
                "quantity": label,
                "predicted": form(guess),
                "actual": form(actual),
                "ratio": f"{ratio:.2f}" if guess else "–",
                "mood": "good" if good else "bad" if guess else "soft",
            }
        )
    return rows


def costs(facts: Facts) -> list[dict[str, str]]:
    """Time and money of every sealed stage, and of all together."""
    price = float(facts.recipe.get("plan", {}).get("usd_per_hour", 0))
    rows: list[tuple[str, float]] = [(_called(name), m["seconds"]) for name, m in facts.manifests.items()]
    if not rows:
        return []
    rows.append(("All stages", sum(took for _, took in rows)))
    return [{"name": name, "time": seconds(took), "usd": money(took / 3600 * price)} for name, took in rows]


def _called(folder: str) -> str:
    stage, _, variant = folder.partition("/")
    name = stage.split("-", 1)[-1].capitalize()
    return f"{name} {variant}" if variant else name


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
