"""The one thing that matters about each finished stage, in a few words."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from luthier.core.artefacts import Manifest
from luthier.core.files import read_json
from luthier.pipeline.stages import Work
from luthier.pipeline.summary import best


def headline(work: Work, manifest: Manifest) -> str:
    """A few words for the stage's line in the terminal."""
    words = HEADLINES.get(work.stage.name)
    return words(work, manifest) if words else ""


def _data(work: Work, manifest: Manifest) -> str:
    counts = manifest.counts
    lost = [f"{counts['rejected']:,} rejected"] if counts["rejected"] else []
    lost += [f"{number:,} {reason.replace('_', ' ')}" for reason, number in counts["removed"].items() if number]
    return f"{counts['kept']:,} of {counts['in']:,} rows" + (f" ({', '.join(lost)})" if lost else "")


def _model(work: Work, manifest: Manifest) -> str:
    base = read_json(work.folder / "base.json")
    return f"{base['name']}, {short(base['parameters'])} parameters"


def _plan(work: Work, manifest: Manifest) -> str:
    checks = read_json(work.folder / "preflight.json")
    passed = sum(entry["status"] == "ok" for entry in checks)
    estimate = read_json(work.folder / "estimate.json")
    words = f"{passed} of {len(checks)} checks passed"
    return f"{words}; {span(estimate['total']['seconds'])}, {size(estimate['memory_bytes'])} to train and test"


def _train(work: Work, manifest: Manifest) -> str:
    result = read_json(work.folder / "result.json")
    measured = ", ".join(f"{name} {value:.3f}" for name, value in result["validation"].items() if value is not None)
    if not measured:
        return f"{result['steps']:,} steps, no validation rows"
    return f"validation {measured} at step {result['best_step']:,} of {result['steps']:,}"


def _evaluate(work: Work, manifest: Manifest) -> str:
    found: dict[str, Any] = best(work.folder.parent)
    return f"best: {found['best']}, {found['metric']} {found['value']:.3f}" if found["best"] else ""


def _deploy(work: Work, manifest: Manifest) -> str:
    counts = manifest.counts
    return f"the trained model on {counts['rows']} rows, logits within {counts['largest_logit_difference']:.1g}"


HEADLINES: dict[str, Callable[[Work, Manifest], str]] = {
    "data": _data,
    "model": _model,
    "plan": _plan,
    "train": _train,
    "evaluate": _evaluate,
    "deploy": _deploy,
}


def short(number: float) -> str:
    """2700000 as 2.7 M."""
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.3g} {unit}"
    return f"{number:g}"


def span(seconds: float) -> str:
    """A duration in the largest unit that fits: 42 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size(count: float) -> str:
    """Bytes in GiB or MiB."""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
