"""Which answers the report shows: the best, the middling and the worst of the best variant, not a lucky dip."""

from __future__ import annotations

from typing import Any

from luthier.evaluate.report.read import Facts

EACH = 4


def order_by(facts: Facts) -> str | None:
    """The metric that rows are ranked by: the selecting one where answers carry it, else the first they carry."""
    rows = facts.answers.get(facts.summary.get("best", ""), [])
    scored = list(rows[0].get("scores", {})) if rows else []
    chosen = facts.summary.get("select")
    return chosen if chosen in scored else (scored[0] if scored else None)


def choose(facts: Facts) -> list[dict[str, Any]]:
    """Up to 12 rows with every subject's answer: `kind` (best, median, worst), `input`, `references`, `answers`."""
    metric = order_by(facts)
    if metric is None:
        return []
    best = facts.summary["best"]
    rows = facts.answers[best]
    ranked = sorted(
        range(len(rows)),
        key=lambda i: (rows[i]["scores"][metric], rows[i]["id"]),
        reverse=facts.metric(metric)["higher_is_better"],
    )
    by_id = {name: {row["id"]: row for row in answers} for name, answers in facts.answers.items()}
    names = [best, *(name for name in facts.subjects if name != best and name in by_id)]
    chosen = []
    for kind, places in groups(len(ranked)):
        for place in places:
            row = rows[ranked[place]]
            told = [{"name": name, **by_id[name][row["id"]]} for name in names if row["id"] in by_id[name]]
            chosen.append({"kind": kind, "input": row["input"], "references": row["references"], "answers": told})
    return chosen


def groups(count: int) -> list[tuple[str, range]]:
    """The places of the best, median and worst rows among `count` ranked ones, none named twice."""
    each = min(EACH, max(1, count // 3)) if count else 0
    middle = max(each, (count - each) // 2)
    worst = max(count - each, min(middle + each, count))
    return [
        ("best", range(0, min(each, count))),
        ("median", range(middle, min(middle + each, worst))),
        ("worst", range(worst, count)),
    ]
