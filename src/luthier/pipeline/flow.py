"""A run: the stages one after another in one process, each skipped when nothing it depends on has changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from luthier.core.artefacts import MANIFEST, Artefacts, Manifest, versions
from luthier.core.events import emit, recorded
from luthier.core.files import disk_errors, write_json
from luthier.pipeline import index
from luthier.pipeline.disk import DiskWatch
from luthier.pipeline.folder import EVENTS, locked, run_id
from luthier.pipeline.headline import headline
from luthier.pipeline.publish import publish
from luthier.pipeline.stages import STAGES, Stage, Work, stage_called, works
from luthier.pipeline.work import Outcome, already_made, begin, perform, sealed
from luthier.recipe.load import identity
from luthier.recipe.schema import Recipe


def run_flow(
    recipe: Recipe,
    folder: Path,
    upto: str | None = None,
    only: str | None = None,
    stages: Sequence[Stage] = STAGES,
    finish: Callable[[Path, bool], None] = publish,
) -> dict[str, Outcome]:
    """Run the stages in `folder` and return what became of each piece of work, by its name.

    `upto` stops after the stage of that name; `only` runs that one, on earlier stages that must be finished. A run
    whose stages are all finished gets its manifest, and `finish(folder, changed)` writes what it shows.
    """
    with _kept(recipe, folder):
        emit("run.started", run=run_id(recipe), folder=str(folder))
        outcomes, manifests = _run_stages(recipe, folder, upto, only, stages)
        whole = len(outcomes) == sum(1 for stage in stages for _ in works(stage, recipe, folder))
        changed = any(outcome.status == "done" for outcome in outcomes.values())
        if whole and (changed or not (folder / MANIFEST).exists()):
            _write_manifest(recipe, folder, outcomes, manifests)
        if whole:
            finish(folder, changed)
    return outcomes


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
    recipe: Recipe, folder: Path, upto: str | None, only: str | None, stages: Sequence[Stage]
) -> tuple[dict[str, Outcome], dict[str, Manifest]]:
    outcomes: dict[str, Outcome] = {}
    manifests: dict[str, Manifest] = {}
    artefacts = _artefacts(folder, stages)
    for stage in stages:
        for work in works(stage, recipe, folder):
            if only not in (None, stage.name):
                manifests[work.name] = already_made(work)
                outcomes[work.name] = Outcome("skipped", manifests[work.name].seconds, manifests[work.name].counts)
                continue
            outcomes[work.name], manifests[work.name] = perform(work, artefacts, manifests)
            _tell(work, outcomes[work.name], manifests[work.name])
        if stage.name in (upto, only):
            break
    return outcomes, manifests


def _tell(work: Work, outcome: Outcome, manifest: Manifest) -> None:
    emit(
        f"stage.{outcome.status}",
        stage=work.name,
        seconds=outcome.seconds,
        counts=dict(outcome.counts),
        headline=headline(work, manifest),
    )


def _write_manifest(
    recipe: Recipe, folder: Path, outcomes: dict[str, Outcome], manifests: dict[str, Manifest]
) -> None:
    """The seal of the whole run: which stages, with which content."""
    body = {
        "run": run_id(recipe),
        "recipe": identity(recipe),
        "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "seconds": round(sum(outcome.seconds for outcome in outcomes.values()), 3),
        "versions": versions(),
        "stages": {name: {"key": found.key, "digest": found.digest} for name, found in manifests.items()},
    }
    write_json(folder / MANIFEST, body)
