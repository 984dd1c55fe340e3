"""Rendered rows on disk while the stage decides about them: memory holds a few numbers a row, never the text."""

from __future__ import annotations

import json
import mmap
import shutil
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from luthier.core.files import disk_errors
from luthier.core.records import Record, from_json, to_json
from luthier.core.shards import IGNORED, Example
from luthier.data.duplicates import exact_key


class Spool:
    """An append-only file of records with their rendered examples (several where a long text was cut)."""

    def __init__(self, folder: Path) -> None:
        self._records_path, self._tokens_path = folder / "records.jsonl", folder / "tokens.bin"
        self._records = self._records_path.open("wb")
        self._tokens = self._tokens_path.open("wb")
        self._record_ends = array("q", [0])
        self._first_piece = array("q", [0])
        self._ends = array("q", [0])  # in tokens, two a piece: end of its input, end of its labels
        self._trained = array("q")
        self._record_map: mmap.mmap | None = None
        self._token_map = np.zeros(0, dtype=np.int32)
        self.keys: list[bytes] = []
        self.groups: list[str | None] = []
        self.truncated = bytearray()

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, record: Record, text: str, examples: Sequence[Example], truncated: bool) -> None:
        """Append a record, the text by which it is compared, its examples, and whether its prompt was cut."""
        line = json.dumps(to_json(record), ensure_ascii=False).encode()
        self._records.write(line)
        self._record_ends.append(self._record_ends[-1] + len(line))
        for example in examples:
            for ids in (example.input_ids, example.labels):
                self._tokens.write(ids.astype(np.int32).tobytes())
                self._ends.append(self._ends[-1] + len(ids))
            self._trained.append(int(np.count_nonzero(example.labels != IGNORED)))
        self._first_piece.append(len(self._trained))
        self.keys.append(exact_key(text))
        self.groups.append(record.group)
        self.truncated.append(truncated)

    def close(self) -> None:
        """End the writing and open what was written for reading."""
        self._records.close()
        self._tokens.close()
        if self._record_ends[-1]:
            with self._records_path.open("rb") as file:
                self._record_map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if self._ends[-1]:
            self._token_map = np.memmap(self._tokens_path, dtype=np.int32, mode="r")

    def json(self, row: int) -> dict[str, Any]:
        """The JSON of a row's record."""
        assert self._record_map is not None
        return json.loads(self._record_map[self._record_ends[row] : self._record_ends[row + 1]])

    def record(self, row: int) -> Record:
        """The record of a row."""
        return from_json(self.json(row))

    def pieces(self, row: int) -> range:
        """The numbers of a row's examples among all examples."""
        return range(self._first_piece[row], self._first_piece[row + 1])

    def example(self, piece: int) -> Example:
        """One example."""
        start, middle, end = self._ends[2 * piece : 2 * piece + 3]
        return Example(np.asarray(self._token_map[start:middle]), np.asarray(self._token_map[middle:end]))

    def lengths(self, rows: Sequence[int]) -> np.ndarray:
        """Tokens of the input, entries of the labels and trained tokens of each example of the rows (examples, 3)."""
        pieces = np.array([piece for row in rows for piece in self.pieces(row)], dtype=np.int64)
        sizes = np.diff(np.frombuffer(self._ends, dtype=np.int64)).reshape(-1, 2)[pieces]
        trained = np.frombuffer(self._trained, dtype=np.int64) if self._trained else np.zeros(0, dtype=np.int64)
        return np.column_stack([sizes, trained[pieces]])


@contextmanager
def open_spool(folder: Path) -> Iterator[Spool]:
    """A spool in a folder that is taken away afterwards."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        with disk_errors(folder):
            yield Spool(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
