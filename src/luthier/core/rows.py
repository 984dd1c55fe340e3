"""The rows of a JSON-lines file by their number, each read when it is asked for: nobody holds them all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, overload

import numpy as np

from luthier.core.records import Record, from_json

LINES = "rows.jsonl"


class Rows(Sequence[dict[str, Any]]):
    """The JSON objects of a file with one a line; `offsets` (rows + 1,) say where the lines begin and end."""

    def __init__(self, path: Path, offsets: np.ndarray) -> None:
        self._path, self._offsets = path, offsets

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @overload
    def __getitem__(self, row: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, row: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, row: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(row, slice):
            return [self[place] for place in range(*row.indices(len(self)))]
        place = range(len(self))[row]  # counts from the end where it is negative, and refuses what is not there
        start, end = self._offsets[place : place + 2].tolist()
        return json.loads(os.pread(self._file.fileno(), end - start, start))

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with self._path.open("rb") as file:
            yield from map(json.loads, file)

    @cached_property
    def _file(self) -> BinaryIO:
        return self._path.open("rb")


class Records(Sequence[Record]):
    """The same rows as records."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, row: int) -> Record: ...
    @overload
    def __getitem__(self, row: slice) -> list[Record]: ...
    def __getitem__(self, row: int | slice) -> Record | list[Record]:
        found = self._rows[row]
        return [from_json(body) for body in found] if isinstance(found, list) else from_json(found)

    def __iter__(self) -> Iterator[Record]:
        return map(from_json, self._rows)
