"""Memory-mapped token shards: the rows of one split, ready to be trained on.

A shard folder holds `input_ids.npy` and `labels.npy` (all rows end to end), their offsets, the source of each row
(`source.npy`), the records they were rendered from (`rows.jsonl`) and where each of these begins
(`row_offsets.npy`). The arrays are plain NumPy files and are opened memory-mapped: a shard may be larger than memory,
and opening one of ten million rows takes no longer than opening one of ten. Single rows are read from the files.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from luthier.core.files import read_json, write_json
from luthier.core.rows import LINES, Records, Rows

IGNORED = -100  # the label of a position that is not trained, as everywhere in the field
TOKENS, OFFSETS = "<i4", "<i8"
AT_ONCE = 1024  # rows that are written together
READ = 1 << 20  # offsets that are read together


@dataclass(frozen=True, slots=True)
class Example:
    """One rendered row.

    Decoder-only models: `input_ids` (T,) is the whole sequence and `labels` (T,) repeats it where a token is
    trained, IGNORED elsewhere; no shift is applied yet. Encoder-decoders: `input_ids` (S,) goes into the encoder,
    `labels` (T,) is what the decoder must say (empty until a `text` objective corrupts the input).
    """

    input_ids: np.ndarray
    labels: np.ndarray
    row: int = -1


class Shard:
    """The rows of one split, opened memory-mapped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.sources: list[str] = read_json(folder / "sources.json")
        self.input_ids = _open(folder / "input_ids.npy")
        self.labels = _open(folder / "labels.npy")
        self.input_offsets = _open(folder / "input_offsets.npy")
        self.label_offsets = _open(folder / "label_offsets.npy")
        self.source = _open(folder / "source.npy")
        kinds = (("input_offsets", "input_ids"), ("label_offsets", "labels"))
        self._files = [tuple(_File(folder / f"{name}.npy") for name in names) for names in kinds]

    def __len__(self) -> int:
        return len(self.input_offsets) - 1

    def __getitem__(self, row: int) -> Example:
        if not 0 <= row < len(self):
            raise IndexError(row)
        parts = (tokens.read(*offsets.read(row, row + 2).tolist()) for offsets, tokens in self._files)
        inputs, labels = (part.astype(np.int64) for part in parts)
        return Example(inputs, labels, row)

    @property
    def input_lengths(self) -> np.ndarray:
        """Tokens of each row's input (rows,), as 32-bit integers."""
        return _lengths(self.folder / "input_offsets.npy")

    @property
    def label_lengths(self) -> np.ndarray:
        """Entries of each row's labels (rows,); for decoder-only models the same as `input_lengths`."""
        return _lengths(self.folder / "label_offsets.npy")

    @cached_property
    def rows(self) -> Rows:
        """The JSON that each row was rendered from, read when it is asked for."""
        return Rows(self.folder / LINES, _open(self.folder / "row_offsets.npy"))

    @property
    def records(self) -> Records:
        """The record that each row was rendered from, read when it is asked for."""
        return Records(self.rows)


def _open(path: Path) -> np.ndarray:
    # numpy cannot map an empty file, and an empty split is a legal one
    try:
        return np.asarray(np.load(path, mmap_mode="r"))  # of numpy's plain class, whose slices cost half as much
    except ValueError:
        return np.load(path)


class _File:
    """A .npy file of which small parts are read here and there.

    Through a map, each would bring up to 2 MB of the file into the process, and training would come to hold it all.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb", buffering=0)
        np.lib.format.read_magic(self._file)  # pyright: ignore[reportArgumentType]  (any binary file will do)
        _, _, self._kind = np.lib.format.read_array_header_1_0(self._file)  # pyright: ignore[reportArgumentType]
        self._start = self._file.tell()

    def read(self, start: int, end: int) -> np.ndarray:
        """The entries from `start` to before `end`; any thread may ask."""
        size = self._kind.itemsize
        body = os.pread(self._file.fileno(), (end - start) * size, self._start + start * size)
        return np.frombuffer(body, dtype=self._kind)


def _lengths(path: Path) -> np.ndarray:
    """The differences of the offsets in a file, read in pieces: mapped, all of it would stay in memory."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)  # pyright: ignore[reportArgumentType]  (any binary file will do)
        (count,), _, _ = np.lib.format.read_array_header_1_0(file)  # pyright: ignore[reportArgumentType]
        lengths = np.empty(count - 1, dtype=np.int32)
        last = np.fromfile(file, dtype=OFFSETS, count=1)
        for start in range(0, len(lengths), READ):
            ends = np.fromfile(file, dtype=OFFSETS, count=READ)
            lengths[start : start + READ] = np.diff(ends, prepend=last)
            last = ends[-1:]
    return lengths


@dataclass(frozen=True)
class Block:
    """Consecutive rows to write: tokens and lines end to end, the lengths of each row (rows,), and its source."""

    input_ids: np.ndarray
    input_lengths: np.ndarray
    labels: np.ndarray
    label_lengths: np.ndarray
    lines: bytes
    line_lengths: np.ndarray
    source: np.ndarray


def write_blocks(folder: Path, blocks: Iterable[Block], sources: Sequence[str]) -> None:
    """Write a shard as its rows come, holding no more of it than one block; `sources` are the names of all."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:

        def growing(name: str, kind: str) -> BinaryIO:
            return stack.enter_context(_growing(folder / f"{name}.npy", kind))

        inputs, labels, source = growing("input_ids", TOKENS), growing("labels", TOKENS), growing("source", TOKENS)
        offsets = [_Offsets(growing(f"{name}_offsets", OFFSETS)) for name in ("input", "label", "row")]
        lines = stack.enter_context((folder / LINES).open("wb"))
        for block in blocks:
            inputs.write(block.input_ids.astype(TOKENS).tobytes())
            labels.write(block.labels.astype(TOKENS).tobytes())
            source.write(block.source.astype(TOKENS).tobytes())
            lines.write(block.lines)
            for kind, lengths in zip(
                offsets, (block.input_lengths, block.label_lengths, block.line_lengths), strict=True
            ):
                kind.add(lengths)
    write_json(folder / "sources.json", list(sources))


def write_shard(
    folder: Path,
    examples: Iterable[Example],
    records: Iterable[Mapping[str, Any]],
    source: Iterable[int],
    sources: Sequence[str],
) -> None:
    """Write the rows of one split as they come; `source` gives each row's index into `sources`."""
    rows = zip(examples, records, source, strict=True)
    blocks = iter(lambda: list(islice(rows, AT_ONCE)), [])
    write_blocks(folder, map(_block, blocks), sources)


def _block(rows: Sequence[tuple[Example, Mapping[str, Any], int]]) -> Block:
    lines = [line_of(record) for _, record, _ in rows]
    return Block(
        input_ids=np.concatenate([example.input_ids for example, _, _ in rows]),
        input_lengths=np.array([len(example.input_ids) for example, _, _ in rows]),
        labels=np.concatenate([example.labels for example, _, _ in rows]),
        label_lengths=np.array([len(example.labels) for example, _, _ in rows]),
        lines=b"".join(lines),
        line_lengths=np.array([len(line) for line in lines]),
        source=np.array([source for _, _, source in rows]),
    )


def line_of(record: Mapping[str, Any]) -> bytes:
    """A record's line of `rows.jsonl`."""
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


class _Offsets:
    """Running sums of lengths on their way to a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._last = file, 0
        file.write(np.zeros(1, dtype=OFFSETS).tobytes())

    def add(self, lengths: np.ndarray) -> None:
        ends = self._last + np.cumsum(lengths, dtype=OFFSETS)
        self._file.write(ends.tobytes())
        self._last = int(ends[-1]) if len(ends) else self._last


@contextmanager
def _growing(path: Path, kind: str) -> Iterator[BinaryIO]:
    """A .npy file of integers whose length is known, and written into its header, only at the end."""
    with path.open("wb") as file:
        _header(file, kind, 0)
        start = file.tell()
        yield file
        length = (file.tell() - start) // np.dtype(kind).itemsize
        file.seek(0)
        _header(file, kind, length)
        assert file.tell() == start  # numpy pads headers so that a longer shape still fits


def _header(file: BinaryIO, kind: str, length: int) -> None:
    header = {"descr": kind, "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, header)
