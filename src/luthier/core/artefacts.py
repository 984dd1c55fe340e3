"""Sealed artefact folders: what a stage reads and writes.

A stage fills a folder and seals it with `manifest.json`, written last and atomically: a folder with a manifest
is finished, one without is not. The manifest's `key` is computed from everything that the stage depends on, so
that a stage whose key is unchanged is skipped.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import luthier
from luthier.core.errors import UserError
from luthier.core.files import digest, read_json, sha256, write_json

MANIFEST = "manifest.json"
TRAININGS = ("train", "training")  # the keys of a section under which settings of stage 4 stand
PACKAGES = ("torch", "transformers", "tokenizers", "peft", "numpy", "safetensors")


@dataclass(frozen=True)
class Counts:
    """How many rows came in and where each went: `in == kept + rejected + sum(removed)`."""

    total: int = 0
    kept: int = 0
    rejected: int = 0
    removed: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        assert self.total == self.kept + self.rejected + sum(self.removed.values()), self

    def to_json(self) -> dict[str, Any]:
        """As manifests and `--json` show it."""
        return {
            "in": self.total,
            "kept": self.kept,
            "rejected": self.rejected,
            "removed": dict(self.removed),
        }


@dataclass(frozen=True)
class Manifest:
    """The seal of a folder."""

    stage: str
    key: str
    inputs: dict[str, str]  # name of an earlier folder or an outside file -> its digest
    section: dict[str, Any]  # the part of the resolved recipe that the stage reads
    versions: dict[str, str]
    counts: dict[str, Any]
    seconds: float
    created: str
    files: dict[str, dict[str, Any]]  # path within the folder -> sha256, bytes

    @property
    def digest(self) -> str:
        """What later stages depend on: the content of every file."""
        return digest(self.files)


@dataclass(frozen=True)
class Artefacts:
    """The sealed folders of the earlier stages, by stage name, and the run's own folder."""

    run: Path
    folders: Mapping[str, Path]

    def __getitem__(self, stage: str) -> Path:
        return self.folders[stage]


@cache
def versions() -> dict[str, str]:
    """The code's own version and those of the packages whose behaviour shapes a result."""
    found = {"luthier": luthier.__version__}
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def key(stage: str, section: Mapping[str, Any], inputs: Mapping[str, str]) -> str:
    """The identity of a stage's work: the same key means that the folder need not be made again."""
    return digest([stage, luthier.__version__, placeless(section), inputs])


def placeless(body: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's or a section's values without where training is placed, which changes results by rounding alone.

    What stays of a placement is the precision that it names. So a run can go on elsewhere from where it stopped.
    """
    return {name: _unplaced(value) if name in TRAININGS else value for name, value in body.items()}


def _unplaced(training: Mapping[str, Any]) -> dict[str, Any]:
    placement = training.get("placement")
    precision = placement.get("precision") if isinstance(placement, Mapping) else None
    shaping = {} if precision is None else {"placement": precision}
    variants = {name: _unplaced(own) for name, own in training.get("variants", {}).items()}
    rest = {name: value for name, value in training.items() if name not in ("placement", "variants")}
    return {**rest, **shaping, **({"variants": variants} if variants else {})}


def seal(
    folder: Path,
    stage: str,
    section: Mapping[str, Any],
    inputs: Mapping[str, str],
    counts: Mapping[str, Any],
    seconds: float,
) -> Manifest:
    """Checksum every file of the folder and write its manifest."""
    paths = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / MANIFEST)
    files = {p.relative_to(folder).as_posix(): {"sha256": sha256(p), "bytes": p.stat().st_size} for p in paths}
    manifest = Manifest(
        stage=stage,
        key=key(stage, section, inputs),
        inputs=dict(inputs),
        section=dict(section),
        versions=versions(),
        counts=dict(counts),
        seconds=round(seconds, 3),
        created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        files=files,
    )
    write_json(folder / MANIFEST, asdict(manifest))
    return manifest


def read_manifest(folder: Path) -> Manifest | None:
    """The folder's seal, or None where there is none yet."""
    path = folder / MANIFEST
    if not path.exists():
        return None
    try:
        return Manifest(**read_json(path))
    except (ValueError, TypeError) as error:
        raise UserError(f"{path} is not a manifest: delete the folder {folder} to make it again") from error


def broken_files(folder: Path) -> list[str]:
    """The files of a sealed folder that are missing or differ from their checksum."""
    manifest = read_manifest(folder)
    if manifest is None:
        return [MANIFEST]
    return [
        name
        for name, entry in manifest.files.items()
        if not (folder / name).is_file() or sha256(folder / name) != entry["sha256"]
    ]
