"""A run: the stages one after another in one process, each skipped when nothing it depends on has changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.core.artefacts import MANIFEST, Artefacts, Manifest, versions
from luthier.core.errors import Refusal
from luthier.core.events import emit, recorded
from luthier.core.files import disk_errors, read_json, write_json
from luthier.pipeline import index
from luthier.pipeline.disk import DiskWatch
from luthier.pipeline.folder import EVENTS, locked, run_id
from luthier.pipeline.headline import headline
from luthier.pipeline.publish import publish
from luthier.pipeline.stages import STAGES, Stage, Work, stage_called, works
from luthier.pipeline.work import Outcome, already_made, begin, perform, sealed
from luthier.recipe.load import identity
from luthier.recipe.schema import Recipe
from luthier.recipe.sections import PlanSection


def run_flow(
    recipe: Recipe,
    folder: Path,
    upto: str | None = None,
    only: str | None = None,
    stages: Sequence[Stage] = STAGES,
    finish: Callable[[Path, bool], None] = publish,
) -> dict[str, Outcome]:
    """Run the stages in `folder` and return what became of each piece of work, by its name.

    `upto` stops after the stage of that name; `only` runs that one, on stages that must be finished. A run whose
    stages are all finished gets its manifest. `finish(folder, changed)` writes what the run shows, as soon as there
    is something: a later stage that is refused takes nothing from it.
    """
    made = _Made({}, {})
    with _kept(recipe, folder):
        emit("run.started", run=run_id(recipe), folder=str(folder))
        shown = [work.name for stage in stages if stage.publishes for work in works(stage, recipe, folder)]
        try:
            _run_stages(recipe, folder, upto, only, stages, made)
        except Refusal:
            if made.holds(shown):
                finish(folder, made.changed)
            raise
        if made.holds(work.name for stage in stages for work in works(stage, recipe, folder)) and (
            made.changed or _sealed_stages(folder) != made.stages
        ):
            _write_manifest(recipe, folder, made)
        if made.holds(shown):
            finish(folder, made.changed)
    return made.outcomes


@dataclass
class _Made:
    """What has become of the run's work so far, by its name."""

    outcomes: dict[str, Outcome]
    manifests: dict[str, Manifest]

    @property
    def changed(self) -> bool:
        return any(outcome.status == "done" for outcome in self.outcomes.values())

    @property
    def stages(self) -> dict[str, dict[str, str]]:
        """The seals as the run's manifest lists them."""
        return {name: {"key": found.key, "digest": found.digest} for name, found in self.manifests.items()}

    def holds(self, names: Iterable[str]) -> bool:
        """Whether all of these, and at least one, are finished."""
        wanted = set(names)
        return bool(wanted) and wanted <= self.manifests.keys()


def check_flow(recipe: Recipe, folder: Path) -> dict[str, Outcome]:
    """The stages before the plan, and the plan's preflight alone unless the plan stands there finished."""
    outcomes = run_flow(recipe, folder, upto="model")
    stage = stage_called("plan")
    (work,) = works(stage, recipe, folder)
    changed = any(outcome.status == "done" for outcome in outcomes.values())
    if changed or sealed(work.folder) is None:
        with _kept(recipe, folder):
            begin(work)
            stage.load().check(work.section, _artefacts(folder, STAGES), work.folder)
    return outcomes


def range_flow(recipe: Recipe, folder: Path) -> tuple[dict[str, Any], dict[str, Outcome]]:
    """The stages before the plan, and what a learning-rate range test finds by variant, which is kept nowhere."""
    from luthier.plan import lr_range

    outcomes = run_flow(recipe, folder, upto="model")
    (work,) = works(stage_called("plan"), recipe, folder)
    assert isinstance(work.section, PlanSection)
    with _kept(recipe, folder):
        return lr_range.run(work.section, _artefacts(folder, STAGES)), outcomes


@contextmanager
def _kept(recipe: Recipe, folder: Path) -> Iterator[None]:
    """The run folder is this process's alone, its events and its place in the index are kept; a full disk is told."""
    with (
        disk_errors(folder),
        locked(folder),
        DiskWatch(folder),
        recorded(folder / EVENTS),
        index.Indexed(recipe, folder),
    ):
        yield


def _artefacts(folder: Path, stages: Sequence[Stage]) -> Artefacts:
    return Artefacts(folder, {stage.name: folder / stage.folder for stage in stages})


def _run_stages(
    recipe: Recipe, folder: Path, upto: str | None, only: str | None, stages: Sequence[Stage], made: _Made
) -> None:
    artefacts = _artefacts(folder, stages)
    needed = () if only is None else next(stage.after for stage in stages if stage.name == only)
    for stage in stages:
        for work in works(stage, recipe, folder):
            if only in (None, stage.name):
                outcome, manifest = perform(work, artefacts, made.manifests)
                _tell(work, outcome, manifest)
            else:
                manifest = already_made(work) if stage.name in needed else sealed(work.folder)
                if manifest is None:
                    continue
                outcome = Outcome("skipped", manifest.seconds, manifest.counts)
            made.outcomes[work.name], made.manifests[work.name] = outcome, manifest
        if stage.name == upto:
            break


def _tell(work: Work, outcome: Outcome, manifest: Manifest) -> None:
    emit(
        f"stage.{outcome.status}",
        stage=work.name,
        seconds=outcome.seconds,
        counts=dict(outcome.counts),
        headline=headline(work, manifest),
    )


def _sealed_stages(folder: Path) -> dict[str, dict[str, str]]:
    return read_json(folder / MANIFEST)["stages"] if (folder / MANIFEST).is_file() else {}


def _write_manifest(recipe: Recipe, folder: Path, made: _Made) -> None:
    """The seal of the whole run: which stages, with which content."""
    body = {
        "run": run_id(recipe),
        "recipe": identity(recipe),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(sum(outcome.seconds for outcome in made.outcomes.values()), 3),
        "versions": versions(),
        "stages": made.stages,
    }
    write_json(folder / MANIFEST, body)
