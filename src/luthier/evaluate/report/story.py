"""The report's first screen: what was done, what came of it, how sure that is, and what to look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from luthier.evaluate.report.read import BASELINES, Facts
from luthier.evaluate.report.strengths import best_at
from luthier.evaluate.report.words import (
    CALLED,
    KNOWN,
    MEANING,
    also,
    better,
    listed,
    money,
    number,
    seconds,
    short,
    signed,
    statement,
)

FEW_TEST_ROWS = 100


def done(facts: Facts) -> str:
    """What was done, in one sentence."""
    base = plain_name(facts.recipe["model"]["base"])
    size = facts.base.get("parameters")
    grown = f" ({short(size)} parameters)" if size else ""
    rows = split_rows(facts, "train")
    learnt = f" on {rows:,} rows" if rows else ""
    names = list(facts.results)
    if not names:
        return f"{base}{grown} was made ready for training{learnt}; nothing has been trained yet."
    ways = f" in {len(names)} ways ({listed(names)})" if len(names) > 1 else f" ({names[0]})"
    tested = test_rows(facts)
    proof = f", then tested on {tested:,} rows that it had never seen" if tested else "; it has not been tested yet"
    return f"{base}{grown} was fine-tuned{learnt}{ways}{proof}."


def plain_name(source: str) -> str:
    """A base or a source as people call it: of a path only its last part, so that no folder of a machine is told."""
    return Path(source).name if source.startswith(("/", ".", "~")) or Path(source).suffix else source


def test_rows(facts: Facts) -> int:
    """How many held-out rows the scores stand on."""
    return int(facts.summary.get("rows", 0))


def split_rows(facts: Facts, split: str) -> int:
    """Rows of a split by the data card; 0 where there is none."""
    return int(facts.data.get("splits", {}).get(split, {}).get("rows", 0))


def told(facts: Facts, a: str, b: str, metric: str) -> str | None:
    """One comparison as a sentence, or None where it was not made."""
    found = facts.comparison(a, b, metric)
    if found is None:
        return None
    values = (facts.scores[a][metric]["value"], facts.scores[b][metric]["value"])
    confidence = facts.summary.get("confidence", 0.95)
    return statement(found, values, facts.metric(metric), confidence, f"{test_rows(facts):,} unseen rows")


def headline(facts: Facts) -> dict[str, Any] | None:
    """The best variant, a title that says what it is worth, and its gains over the baselines in words."""
    best, metric = facts.summary.get("best"), facts.summary.get("select")
    if not best or not metric:
        return None
    others = [name for name in BASELINES if facts.comparison(best, name, metric)]
    higher = facts.metric(metric)["higher_is_better"]
    brief = [also(found, higher) for name in others[1:] if (found := facts.comparison(best, name, metric))]
    return {
        "best": best,
        "metric": facts.metric(metric)["label"],
        "meaning": MEANING.get(metric, ""),
        "title": _title({name: outcome(facts, best, name, metric) for name in others}),
        "sentence": (told(facts, best, others[0], metric) if others else None)
        or "There is no baseline to compare it with.",
        "further": " ".join(brief),
    }


def _title(outcomes: dict[str, bool | None]) -> str:
    """What follows the best variant's name in the report's title; short, so that the sentences below can be exact."""
    if not outcomes:
        return "is the best variant."
    first, *_ = outcomes
    called = {"base": "the model it started from"}.get(first, CALLED[first])
    if outcomes[first] is None:
        return f"is the best variant, but not shown to be better than {called}."
    if outcomes[first] is False:
        return f"is the best variant, but worse than {called}."
    missed = [name for name, result in outcomes.items() if result is not True]
    return f"is the best variant, better than {called}{f', but not than {listed(missed)}' if missed else ''}."


def outcome(facts: Facts, a: str, b: str, metric: str) -> bool | None:
    """Whether a is better than b on the metric; None where that is not shown."""
    found = facts.comparison(a, b, metric)
    return better(found, facts.metric(metric)["higher_is_better"]) if found else None


def remarks(facts: Facts) -> list[dict[str, str]]:
    """What else the comparisons say: who did not beat which baseline, who is as good as the best."""
    best, metric = facts.summary.get("best"), facts.summary.get("select")
    if not best or not metric:
        return []
    found = []
    for name in facts.variants:
        if name == best or metric not in facts.scores[name]:
            continue
        parts = [
            _against_best(facts, name, best, metric),
            _against_baselines(facts, name, metric),
            best_at(facts, name),
        ]
        if outcome(facts, name, BASELINES[0], metric) is not True:
            parts.append(KNOWN.get(str(facts.results.get(name, {}).get("method")), ""))
        text = " ".join(part for part in parts if part)
        found.append({"name": name, "text": text})
    return found


def _against_best(facts: Facts, name: str, best: str, metric: str) -> str:
    value = f"{facts.metric(metric)['label']} {number(facts.scores[name][metric]['value'])}"
    if facts.comparison(name, best, metric) is None:
        return f"{value}."
    if outcome(facts, name, best, metric) is None:
        return f"{value}, not shown to differ from {best}."
    return f"{value}, below {best} by more than chance explains."


def _against_baselines(facts: Facts, name: str, metric: str) -> str:
    results = {b: outcome(facts, name, b, metric) for b in BASELINES if facts.comparison(name, b, metric)}
    beaten = [b for b, won in results.items() if won is True]
    missed = [b for b, won in results.items() if won is None]
    lost = [b for b, won in results.items() if won is False]
    if results and len(beaten) == len(results):
        return f"It beats {listed(beaten)}."
    parts = []
    if beaten:
        parts.append(f"It beats {listed(beaten)}.")
    if missed:
        parts.append(f"It did not beat {listed(missed)}: the difference is too small to be told from chance.")
    if lost:
        parts.append(f"It is worse than {listed(lost)}.")
    return " ".join(parts)


def tiles(facts: Facts) -> list[dict[str, str]]:
    """The run's key figures: what was gained, what it cost, what it took."""
    shown = []
    best, metric = facts.summary.get("best"), facts.summary.get("select")
    if best and metric:
        first = next((b for b in BASELINES if facts.comparison(best, b, metric)), None)
        label = facts.metric(metric)["label"]
        if first is not None and (found := facts.comparison(best, first, metric)):
            value = signed(found["difference"])
            shown.append({"label": f"Difference to {first}", "value": value, "note": f"{label}, {best}"})
        else:
            value = number(facts.scores[best][metric]["value"])
            shown.append({"label": f"{label} of {best}", "value": value, "note": ""})
    if facts.manifests:
        price = f"{money(facts.recipe.get('plan', {}).get('usd_per_hour'))} an hour"
        shown.append({"label": "Time, all stages", "value": seconds(facts.seconds), "note": ""})
        shown.append({"label": "Cost", "value": money(facts.usd), "note": f"at {price}"})
    result = facts.results.get(best or "", {})
    if result.get("trainable_parameters") and result.get("total_parameters"):
        share = result["trainable_parameters"] / result["total_parameters"]
        share_told = f"{share:.1%} of the model" if share < 0.9995 else "the whole model"
        shown.append(
            {"label": f"Trained in {best}", "value": short(result["trainable_parameters"]), "note": share_told}
        )
    return shown


def warnings(facts: Facts) -> list[str]:
    """What the reader should look at before believing the rest."""
    found = [f"{entry['check']}: {entry['detail']}" for entry in facts.preflight if entry["status"] != "ok"]
    found += [str(text) for text in facts.data.get("warnings", [])]
    if 0 < test_rows(facts) < FEW_TEST_ROWS:
        found.append(f"Only {test_rows(facts)} test rows: the intervals are wide. Hold out more for a surer answer.")
    for name, curve in facts.curves.items():
        if curve["verdict"] in ("unstable", "overfitting"):
            found.append(f"{name} is {curve['verdict']}: {curve['rule']}.")
    for name, result in facts.results.items():
        found += _training_warnings(name, result)
    found += [str(text) for text in facts.summary.get("notes", [])]
    return found


def _training_warnings(name: str, result: dict[str, Any]) -> list[str]:
    found = []
    if result.get("steps") and result.get("best_step") == 0:
        found.append(f"{name} is the untrained model: no validation after step 0 was better by train.select.")
    if skipped := result.get("skipped_steps"):
        found.append(f"{name} left out steps whose loss was not a number: {listed([str(step) for step in skipped])}.")
    if spikes := result.get("spikes"):
        steps = f"{len(spikes)} steps, the first at {spikes[0]}" if len(spikes) > 1 else f"step {spikes[0]}"
        found.append(f"{name} met {steps}, whose loss or gradient lay far above the ones before: look at the rows.")
    return found
