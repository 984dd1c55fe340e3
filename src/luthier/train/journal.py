"""metrics.jsonl: a line per step and a line per validation; a resumed run continues it without a seam.

A loss or norm that is not a number is null there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from luthier.core.files import disk_errors, finite, json_text, read_jsonl, write_jsonl

JOURNAL = "metrics.jsonl"


class Journal:
    """The metrics of one variant."""

    def __init__(self, path: Path, step: int) -> None:
        """Continue the file after `step`, or begin it."""
        if path.exists():
            write_jsonl(path, [line for line in _sound_lines(path) if line["step"] <= step and step > 0])
        self._path = path

    def write(self, **values: Any) -> None:
        """Append a line."""
        with disk_errors(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json_text(finite(values)) + "\n")


class Silent(Journal):
    """The journal of a process that does not lead."""

    def __init__(self) -> None:
        pass

    def write(self, **values: Any) -> None:
        """Nothing: rank 0 writes it."""


def _sound_lines(path: Path) -> list[Any]:
    """All lines but a last one that a kill cut short."""
    try:
        return read_jsonl(path)
    except json.JSONDecodeError:
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("".join(line + "\n" for line in lines[:-1]), encoding="utf-8")
        return read_jsonl(path)
