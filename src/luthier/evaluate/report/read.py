"""What the report knows: the files of a run folder, those of them that are there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from luthier.core.errors import UserError
from luthier.core.files import read_json, read_jsonl
from luthier.evaluate.curves import read_curve

BASELINES = ("base", "few-shot", "lead")
SEALED = ("[1-7]-*", "4-train/*", "6-deploy/*/*")  # the folders of a run that may have a manifest


@dataclass(frozen=True)
class Facts:
    """A run as its files tell it; what a stage has not written is empty."""

    folder: Path
    recipe: dict[str, Any]
    recipe_text: str
    whole: dict[str, Any]  # the manifest of the finished run
    manifests: dict[str, dict[str, Any]]  # by folder, such as 1-data and 6-deploy/lora/merged
    data: dict[str, Any]
    base: dict[str, Any]
    preflight: list[dict[str, Any]]
    shown: list[dict[str, Any]]  # rows as the model sees them, with what is trained marked
    estimate: dict[str, Any]
    results: dict[str, dict[str, Any]]  # stage 4, by variant
    curves: dict[str, dict[str, Any]]
    scores: dict[str, dict[str, dict[str, float]]]
    comparisons: list[dict[str, Any]]
    by_source: dict[str, dict[str, Any]]
    forgetting: dict[str, Any]
    summary: dict[str, Any]
    answers: dict[str, list[dict[str, Any]]]

    @property
    def name(self) -> str:
        """The run's id where it is finished, else its folder's name."""
        return str(self.whole.get("run") or self.folder.resolve().name)

    @property
    def subjects(self) -> list[str]:
        """Everything that was measured: baselines first, then the variants in the recipe's order."""
        order = [*BASELINES, *self.results]
        return sorted(self.scores, key=lambda name: order.index(name) if name in order else len(order))

    @property
    def variants(self) -> list[str]:
        """The recipe's own among what was measured."""
        return [name for name in self.subjects if name not in BASELINES]

    @property
    def seconds(self) -> float:
        """What all sealed stages took together."""
        return sum(manifest["seconds"] for manifest in self.manifests.values())

    @property
    def usd(self) -> float:
        """What that cost at the recipe's price of an hour."""
        return self.seconds / 3600 * float(self.recipe.get("plan", {}).get("usd_per_hour", 0))

    def metric(self, name: str) -> dict[str, Any]:
        """A metric's `label` and whether `higher_is_better`."""
        return self.summary.get("metrics", {}).get(name, {"label": name, "higher_is_better": True})

    def comparison(self, a: str, b: str, metric: str) -> dict[str, Any] | None:
        """The comparison of a with b on a metric, whichever way round it was stored."""
        for found in self.comparisons:
            if found["metric"] != metric:
                continue
            if (found["a"], found["b"]) == (a, b):
                return found
            if (found["a"], found["b"]) == (b, a):
                turned = {"difference": -found["difference"], "low": -found["high"], "high": -found["low"]}
                return {**found, "a": a, "b": b, **turned}
        return None


def read_run(run: Path) -> Facts:
    """Read a run folder; only its recipe must be there."""
    recipe_path = run / "recipe.yaml"
    if not recipe_path.is_file():
        raise UserError(f"{run} is not a run folder: it holds no recipe.yaml")
    text = recipe_path.read_text(encoding="utf-8")
    recipe = yaml.safe_load(text)
    trained = _variants(run / "4-train", recipe)
    evaluated = run / "5-evaluate"
    return Facts(
        folder=run,
        recipe=recipe,
        recipe_text=text,
        whole=_json(run / "manifest.json", {}),
        manifests={
            path.parent.relative_to(run).as_posix(): read_json(path)
            for path in sorted(path for sealed in SEALED for path in run.glob(f"{sealed}/manifest.json"))
        },
        data=_json(run / "1-data" / "card.json", {}),
        base=_json(run / "2-model" / "base.json", {}),
        preflight=_json(run / "3-plan" / "preflight.json", []),
        shown=_json(run / "3-plan" / "shown.json", []),
        estimate=_json(run / "3-plan" / "estimate.json", {}),
        results={name: _json(run / "4-train" / name / "result.json", {}) for name in trained},
        curves={name: read_curve(run / "4-train" / name) for name in trained},
        scores=_json(evaluated / "scores.json", {}),
        comparisons=_json(evaluated / "comparisons.json", []),
        by_source=_json(evaluated / "by_source.json", {}),
        forgetting=_json(evaluated / "forgetting.json", {}),
        summary=_json(evaluated / "summary.json", {}),
        answers={path.stem: read_jsonl(path) for path in sorted((evaluated / "answers").glob("*.jsonl"))},
    )


def _variants(folder: Path, recipe: dict[str, Any]) -> list[str]:
    found = {path.parent.name for path in folder.glob("*/result.json")}
    named = [name for name in recipe.get("train", {}).get("variants", {}) if name in found]
    return named + sorted(found - set(named))


def _json(path: Path, otherwise: Any) -> Any:
    return read_json(path) if path.is_file() else otherwise
