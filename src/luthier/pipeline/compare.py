"""Runs set side by side: the variants of one, or the best variant of several on the same test rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from luthier.core.artefacts import read_manifest
from luthier.core.errors import UserError
from luthier.pipeline import summary
from luthier.pipeline.index import find

TEST_ROWS = "test/rows.jsonl"


def compare_runs(references: Sequence[str]) -> dict[str, Any]:
    """Scores and paired comparisons as one document; `notes` say what makes several runs hard to compare."""
    folders = [find(reference) for reference in references]
    documents = [_evaluated(folder) for folder in folders]
    if len(documents) == 1:
        return {**documents[0], "notes": []}
    rows: dict[str, Any] = {}
    for folder, document in zip(folders, documents, strict=True):
        for name in dict.fromkeys(("base", document["best"])):
            if name in document["metrics"]:
                rows[f"{folder.name}/{name}"] = document["metrics"][name]
    return {
        "runs": [document["run"] for document in documents],
        "metrics": rows,
        "comparisons": [],
        "best": None,
        "notes": _notes(folders, documents),
    }


def _evaluated(folder: Path) -> dict[str, Any]:
    document = summary.document(folder)
    if not document["metrics"]:
        raise UserError(f"{folder} is not evaluated yet: `luthier resume {folder}`")
    return document


def _notes(folders: Sequence[Path], documents: Sequence[dict[str, Any]]) -> list[str]:
    notes = []
    if len({_test_digest(folder) for folder in folders}) > 1:
        notes.append("the runs were tested on different rows: their scores do not compare")
    if len({document["select"] for document in documents}) > 1:
        notes.append("the runs chose their best variant by different metrics")
    return notes


def _test_digest(folder: Path) -> str | None:
    """Checksum of the test rows; None where the data stage is not sealed."""
    manifest = read_manifest(folder / "1-data")
    return manifest.files[TEST_ROWS]["sha256"] if manifest and TEST_ROWS in manifest.files else None
