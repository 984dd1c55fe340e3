"""The stages of a run as one ordered tuple, and the pieces of work that each means for a recipe."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from luthier.recipe.schema import Recipe
from luthier.recipe.sections import (
    DataSection,
    DeploySection,
    EvaluateSection,
    ModelSection,
    PlanSection,
    TrainSection,
)
from luthier.recipe.values import Frozen


@dataclass(frozen=True)
class Stage:
    """One stage: where its `run` is, what it may see, and whose folders shape its result.

    `given` are keyword arguments of `run` that come from above its layer, by where they are defined. A stage that
    is `resumable` finds the files of its interrupted predecessor in its folder; any other starts with an empty one.
    What a stage that `publishes` has found is what the report shows.
    """

    number: int
    name: str
    section: type[Frozen]
    module: str
    after: tuple[str, ...] = ()
    given: Mapping[str, str] = field(default_factory=dict)
    resumable: bool = False
    per_variant: bool = False
    per_export: bool = False
    publishes: bool = False

    @property
    def folder(self) -> str:
        """The stage's folder within the run's."""
        return f"{self.number}-{self.name}"

    def load(self) -> ModuleType:
        """The stage's module, imported when it is first needed."""
        return import_module(self.module)

    def arguments(self) -> dict[str, Any]:
        """What `given` names, imported."""
        found = {}
        for name, where in self.given.items():
            module, attribute = where.split(":")
            found[name] = getattr(import_module(module), attribute)
        return found


STAGES: tuple[Stage, ...] = (
    Stage(1, "data", DataSection, "luthier.data.stage"),
    Stage(2, "model", ModelSection, "luthier.models.stage"),
    Stage(3, "plan", PlanSection, "luthier.plan.stage", after=("data", "model")),
    Stage(
        4,
        "train",
        TrainSection,
        "luthier.train.stage",
        after=("data", "model"),
        given={"evaluate": "luthier.evaluate.quick:validation_metrics"},
        resumable=True,
        per_variant=True,
    ),
    Stage(5, "evaluate", EvaluateSection, "luthier.evaluate.stage", after=("data", "model", "train"), publishes=True),
    Stage(
        6,
        "deploy",
        DeploySection,
        "luthier.deploy.stage",
        after=("data", "model", "train"),
        per_variant=True,
        per_export=True,
    ),
)


@dataclass(frozen=True)
class Work:
    """One sealed folder to make: a stage, or of it one variant, or of that one export."""

    stage: Stage
    part: tuple[str, ...]  # (), (`lora`,), (`lora`, `merged`)
    folder: Path
    section: Frozen

    @property
    def name(self) -> str:
        """`data`, `train/lora`, `deploy/lora/merged`."""
        return "/".join((self.stage.name, *self.part))

    @property
    def variant(self) -> str | None:
        """The variant, for a stage that works on each alone."""
        return self.part[0] if self.part else None


def works(stage: Stage, recipe: Recipe, run: Path) -> Iterator[Work]:
    """What the stage has to make for this recipe, in order."""
    for part in parts(stage, recipe):
        yield Work(stage, part, run.joinpath(stage.folder, *part), section(stage, recipe, *part))


def parts(stage: Stage, recipe: Recipe) -> Iterator[tuple[str, ...]]:
    """What the stage works on, each alone: the run, its variants, or the exports of these."""
    if not stage.per_variant:
        yield ()
    elif not stage.per_export:
        yield from ((variant,) for variant in recipe.train.names)
    elif recipe.deploy.exports:
        from luthier.deploy.offers import offered

        for variant in recipe.train.names:
            yield from ((variant, export) for export in offered(recipe, variant))


def section(stage: Stage, recipe: Recipe, variant: str | None = None, export: str | None = None) -> Frozen:
    """The part of the recipe that the stage sees."""
    known: dict[str, Any] = {"max_new_tokens": recipe.evaluate.max_new_tokens}
    if variant is not None:
        known["training"] = recipe.train.variant(variant)
    if export is not None:
        known["export"] = next(entry for entry in recipe.deploy.exports if entry.name == export)
    fields = stage.section.model_fields
    return stage.section(**{name: known[name] if name in known else getattr(recipe, name) for name in fields})


def stage_called(name: str, stages: tuple[Stage, ...] = STAGES) -> Stage:
    """The stage of that name."""
    return next(stage for stage in stages if stage.name == name)
