"""Rendered rows on disk while the stage decides about them: memory holds a few numbers a row, never the text.

For each row 29 bytes are held (where its record lies, its key, its first example, whether it was cut), for each
example 20 (where its tokens lie, how many they are), and 24 more for each row where `data.split.by` names groups.
"""

from __future__ import annotations

import json
import mmap
import shutil
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from luthier.core.files import disk_errors
from luthier.core.records import Record, from_json
from luthier.core.shards import Example
from luthier.data.signatures import HASHES
from luthier.data.taking import Taken

SIGNATURE = 4 * HASHES  # bytes
MAPPED = 1 << 24  # bytes of a file that stay in memory once they have been read, about
AROUND = 1 << 16  # bytes that Linux maps with the first one that is touched


class Spool:
    """Append-only files of records with their rendered examples (several where a long text was cut)."""

    def __init__(self, folder: Path) -> None:
        self._records, self._tokens = _Bytes(folder / "records.jsonl"), _Bytes(folder / "tokens.bin")
        self._groups, self._signatures = _Bytes(folder / "groups.txt"), _Bytes(folder / "signatures.bin")
        self._record_ends, self._group_ends = array("q", [0]), array("q", [0])
        self._first_piece, self._token_ends = array("i", [0]), array("q", [0])
        self._sizes, self._keys, self._truncated = array("i"), bytearray(), bytearray()
        self._group_keys = bytearray()

    def __len__(self) -> int:
        return len(self._truncated)

    def add(self, taken: Taken) -> None:
        """Append the rows that were kept of a chunk."""
        if any(group is not None for group in taken.groups):
            self._add_groups(taken.groups)
        self._records.write(taken.lines)
        self._tokens.write(taken.tokens.tobytes())
        self._signatures.write(taken.signatures.tobytes())
        _extend(self._record_ends, self._record_ends[-1] + np.cumsum(taken.line_lengths, dtype=np.int64))
        _extend(self._token_ends, self._token_ends[-1] + np.cumsum(taken.sizes[:, :2].sum(1), dtype=np.int64))
        _extend(self._first_piece, self._first_piece[-1] + np.cumsum(taken.pieces, dtype=np.int32))
        _extend(self._sizes, taken.sizes)
        self._keys += taken.keys.tobytes()
        self._truncated += taken.truncated.tobytes()

    def _add_groups(self, groups: Sequence[str | None]) -> None:
        missing = len(self) - (len(self._group_ends) - 1)  # rows before the first that has a group
        for group in (*[None] * missing, *groups):
            body = (group or "").encode()
            self._groups.write(body)
            self._group_ends.append(self._group_ends[-1] + len(body))
            self._group_keys += blake2b(body, digest_size=16).digest() if body else bytes(16)

    def close(self) -> None:
        """End the writing and open what was written for reading."""
        for file in (self._records, self._tokens, self._groups, self._signatures):
            file.close()
        self._record_offsets = np.frombuffer(self._record_ends, dtype=np.int64)
        self._token_offsets = np.frombuffer(self._token_ends, dtype=np.int64)
        self._pieces = np.frombuffer(self._first_piece, dtype=np.int32)
        self.sizes = np.frombuffer(self._sizes, dtype=np.int32).reshape(-1, 3)
        self.keys = np.frombuffer(self._keys, dtype="S16")
        self.truncated = np.frombuffer(self._truncated, dtype=bool)
        self.signatures = _Signatures(self._signatures)

    def line(self, row: int) -> bytes:
        """The line of a row's record."""
        return self._records.read(self._record_offsets[row], self._record_offsets[row + 1])

    def json(self, row: int) -> dict[str, Any]:
        """The JSON of a row's record."""
        return json.loads(self.line(row))

    def record(self, row: int) -> Record:
        """The record of a row."""
        return from_json(self.json(row))

    def group(self, row: int) -> str | None:
        """The value that keeps the row with others."""
        start, end = self._group_ends[row : row + 2] if row + 1 < len(self._group_ends) else (0, 0)
        return self._groups.read(start, end).decode() or None

    def groups(self, rows: np.ndarray) -> int:
        """How many groups the rows are of."""
        known = np.frombuffer(self._group_keys, dtype="S16")
        return len(set(known[rows[rows < len(known)]].tolist()) - {b""})

    def split_key(self, row: int) -> str:
        """What says where the row goes: its group, or what it says."""
        return self.group(row) or bytes(self._keys[16 * row : 16 * row + 16]).hex()

    def pieces(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of the rows' examples among all examples (examples,)."""
        counts = self.counts(rows)
        before = np.repeat(np.cumsum(counts) - counts, counts)
        return np.repeat(self._pieces[rows], counts) + np.arange(len(before)) - before

    def counts(self, rows: np.ndarray) -> np.ndarray:
        """How many examples each row has (rows,)."""
        return self._pieces[rows + 1] - self._pieces[rows]

    def example(self, piece: int) -> Example:
        """One example."""
        start, end = self._token_offsets[piece : piece + 2].tolist()
        tokens = np.frombuffer(self._tokens.read(4 * start, 4 * end), dtype=np.int32)
        return Example(tokens[: self.sizes[piece, 0]], tokens[self.sizes[piece, 0] :])


class _Signatures:
    """The MinHash signatures (rows, HASHES) on disk, indexed as the array is."""

    def __init__(self, file: _Bytes) -> None:
        self._file = file

    def __len__(self) -> int:
        return self._file.size // SIGNATURE

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, slice):
            start, end, _ = rows.indices(len(self))
            return self._read(start, end)
        if isinstance(rows, np.ndarray):
            return np.concatenate([self._read(0, 0), *(self._read(row, row + 1) for row in rows.tolist())])
        return self._read(rows, rows + 1)[0]

    def _read(self, start: int, end: int) -> np.ndarray:
        body = self._file.read(SIGNATURE * start, SIGNATURE * end)
        return np.frombuffer(body, dtype=np.uint32).reshape(-1, HASHES)


class _Bytes:
    """A file that is written from end to end, then read through a map whose pages are given back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO = path.open("wb")
        self._map: mmap.mmap | bytes = b""
        self._mapped = 0

    def write(self, body: bytes) -> None:
        self._file.write(body)

    def close(self) -> None:
        self._file.close()
        if self._path.stat().st_size:
            with self._path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    @property
    def size(self) -> int:
        return len(self._map)

    def read(self, start: int, end: int) -> bytes:
        self._mapped += max(end - start, AROUND)
        if self._mapped > MAPPED and isinstance(self._map, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            self._map.madvise(mmap.MADV_DONTNEED)
            self._mapped = 0
        return self._map[start:end]


def _extend(column: array, values: np.ndarray) -> None:
    column.frombytes(values.astype(column.typecode).tobytes())


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
