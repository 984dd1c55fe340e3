"""One sealed folder: skipped when nothing that shapes it has changed, else made, timed and sealed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.core.artefacts import MANIFEST, Artefacts, Counts, Manifest, key, read_manifest, seal
from luthier.core.errors import UserError
from luthier.core.events import Stopwatch, emit
from luthier.core.files import read_json, write_json
from luthier.pipeline.stages import Work

BEGUN = "begun.json"  # the key of the work that a resumable folder holds


@dataclass(frozen=True)
class Outcome:
    """What became of one piece of work; `seconds` is what making it took, also when that was an earlier run."""

    status: str  # done | skipped
    seconds: float
    counts: Mapping[str, Any] = field(default_factory=dict)


def intact(folder: Path, manifest: Manifest) -> bool:
    """Whether every file is there in its size: the cheap half of verification."""
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == entry["bytes"]
        for name, entry in manifest.files.items()
    )


def sealed(folder: Path) -> Manifest | None:
    """The seal of a folder whose files are all there."""
    manifest = read_manifest(folder)
    return manifest if manifest and intact(folder, manifest) else None


def inputs_of(work: Work, before: Mapping[str, Manifest]) -> dict[str, str]:
    """Digest of everything outside its section that shapes the work: earlier folders, files of the user's."""
    digests = {name: manifest.digest for name, manifest in before.items() if _shapes(name, work)}
    dependencies = getattr(work.stage.load(), "dependencies", None)
    return digests | (dependencies(work.section) if dependencies else {})


def _shapes(name: str, work: Work) -> bool:
    """Whether the earlier work of that name shapes this one; of variants, only this work's own."""
    stage, _, variant = name.partition("/")
    return stage in work.stage.after and (not variant or work.variant in (None, variant))


def perform(work: Work, artefacts: Artefacts, before: Mapping[str, Manifest]) -> tuple[Outcome, Manifest]:
    """Make the folder unless it stands there, finished, from the same inputs."""
    section = work.section.model_dump(mode="json")
    inputs = inputs_of(work, before)
    wanted = key(work.name, section, inputs)
    manifest = sealed(work.folder)
    if manifest and manifest.key == wanted:
        return Outcome("skipped", manifest.seconds, manifest.counts), manifest
    begin(work, wanted)
    emit("stage.started", stage=work.name)
    watch = Stopwatch()
    counts = work.stage.load().run(work.section, artefacts, work.folder, **work.stage.arguments())
    counts = counts.to_json() if isinstance(counts, Counts) else dict(counts or {})
    manifest = seal(work.folder, work.name, section, inputs, counts, watch.seconds)
    return Outcome("done", manifest.seconds, counts), manifest


def begin(work: Work, wanted: str = "") -> None:
    """Make the folder, empty; a resumable stage keeps what it had begun of exactly this work."""
    begun = work.folder / BEGUN
    (work.folder / MANIFEST).unlink(missing_ok=True)
    if not (work.stage.resumable and begun.is_file() and read_json(begun)["key"] == wanted):
        shutil.rmtree(work.folder, ignore_errors=True)
    work.folder.mkdir(parents=True, exist_ok=True)
    if work.stage.resumable:
        write_json(begun, {"key": wanted})


class Unmade(UserError):
    """What a verb builds on has not been made; nothing was done, and nothing about the run has changed."""


def already_made(work: Work) -> Manifest:
    """The seal of work that must have been done before."""
    manifest = sealed(work.folder)
    if manifest is None:
        run = work.folder.parents[len(work.part)]
        raise Unmade(f"{work.folder} is not finished: `luthier resume {run}` makes it")
    return manifest
