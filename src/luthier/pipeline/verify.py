"""A run folder looked at again: every checksum, the chain from folder to folder, and the parity of every export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from luthier.core.artefacts import MANIFEST, Manifest, broken_files, read_manifest
from luthier.core.errors import UserError
from luthier.core.files import read_json
from luthier.pipeline.folder import LOCK, RECIPE, is_locked
from luthier.pipeline.stages import STAGES, Work, works
from luthier.recipe.load import identity
from luthier.recipe.schema import Recipe


def verify(recipe: Recipe, folder: Path) -> dict[str, Any]:
    """The document of `luthier verify`: what was looked at, and every problem as a sentence.

    UserError while another process works in the folder. Exports whose own files or whose run's are not as they were
    sealed are not compared: their problem is known.
    """
    if is_locked(folder):
        owner = (folder / LOCK).read_text().strip() or "unknown"
        raise UserError(f"process {owner} is working in {folder}: wait for it, then verify")
    whole = read_json(folder / MANIFEST) if (folder / MANIFEST).is_file() else {}
    everything = [work for stage in STAGES for work in works(stage, recipe, folder)]
    manifests = {work.name: found for work in everything if (found := read_manifest(work.folder))}
    problems = list(_run_problems(recipe, folder, whole, manifests))
    folders: dict[str, Any] = {}
    for work in everything:
        if work.name in manifests:
            own = list(_problems(work, manifests))
            folders[work.name] = {"files": len(manifests[work.name].files), "problems": own}
            problems += own
    exports = {} if problems else _exports([work for work in everything if work.name in manifests], folder)
    problems += [sentence for body in exports.values() for sentence in body.pop("problems")]
    return {
        "run": whole.get("run", folder.resolve().name),
        "out": str(folder),
        "status": "refused" if problems else "done",
        "folders": folders,
        "exports": exports,
        "unfinished": [work.name for work in everything if work.name not in manifests],
        "problems": problems,
    }


def _run_problems(
    recipe: Recipe, folder: Path, whole: Mapping[str, Any], manifests: Mapping[str, Manifest]
) -> Iterator[str]:
    """The run's own manifest against its recipe and the seals of its folders."""
    if whole and whole["recipe"] != identity(recipe):
        yield f"{folder / RECIPE} is not the recipe that was run: put it back, or `luthier resume {folder}`"
    for name, sealed in whole.get("stages", {}).items():
        if name not in manifests:
            yield f"{name} is sealed in {folder / MANIFEST} and not in its folder: `luthier resume {folder}` makes it"
        elif manifests[name].digest != sealed["digest"]:
            yield f"{name} was sealed again after the run had ended: `luthier resume {folder}`"


def _problems(work: Work, manifests: Mapping[str, Manifest]) -> Iterator[str]:
    """What is not as it was sealed in one folder, or was made from other folders than those that stand there."""
    manifest = manifests[work.name]
    mend = f"delete {work.folder} and `luthier resume` the run, which makes it again"
    for name in broken_files(work.folder):
        there = "differs from its checksum" if (work.folder / name).is_file() else "is missing"
        yield f"{work.folder / name} {there}: {mend}"
    for path in sorted(work.folder.rglob("*")):
        name = path.relative_to(work.folder).as_posix()
        if path.is_file() and name not in {*manifest.files, MANIFEST} and not path.name.startswith("."):
            yield f"{path} was not there when the folder was sealed: take it away"
    for name, digest in manifest.inputs.items():
        if name in manifests and manifests[name].digest != digest:
            yield f"{work.name} was made from another {name} than the one that stands there: {mend}"


def _exports(standing: list[Work], folder: Path) -> dict[str, Any]:
    """The parity of every export, with its problem as a sentence."""
    sections: dict[Any, Any] = {work.part: work.section for work in standing if work.stage.per_export}
    if not sections:
        return {}
    from luthier.deploy.stage import again, refusal

    found: dict[str, Any] = {}
    for part, parity in again(folder, sections).items():
        name = "/".join(part)
        found[name] = {**parity.to_json(), "problems": [refusal(name, parity)] if parity.differences else []}
    return found
