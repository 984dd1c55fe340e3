"""Memory-mapped token shards: the rows of one split, ready to be trained on.

A shard folder holds `input_ids.npy` and `labels.npy` (all rows end to end), their offsets, the source of each row
(`source.npy`) and the records they were rendered from (`rows.jsonl`). The arrays are plain NumPy files and are
opened memory-mapped: a shard larger than memory is read page by page.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from luthier.core.files import read_json, write_json

IGNORED = -100  # the label of a position that is not trained, as everywhere in the field


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
        self.input_offsets = np.load(folder / "input_offsets.npy")
        self.label_offsets = np.load(folder / "label_offsets.npy")
        self.source = np.load(folder / "source.npy")

    def __len__(self) -> int:
        return len(self.input_offsets) - 1

    def __getitem__(self, row: int) -> Example:
        inputs = self.input_ids[self.input_offsets[row] : self.input_offsets[row + 1]]
        labels = self.labels[self.label_offsets[row] : self.label_offsets[row + 1]]
        return Example(np.asarray(inputs, dtype=np.int64), np.asarray(labels, dtype=np.int64), row)

    @property
    def input_lengths(self) -> np.ndarray:
        """Tokens of each row's input (rows,)."""
        return np.diff(self.input_offsets)

    @property
    def label_lengths(self) -> np.ndarray:
        """Entries of each row's labels (rows,); for decoder-only models the same as `input_lengths`."""
        return np.diff(self.label_offsets)

    def records(self) -> list[dict[str, Any]]:
        """The JSON records that the rows were rendered from, in row order."""
        with (self.folder / "rows.jsonl").open(encoding="utf-8") as file:
            return [json.loads(line) for line in file]


def _open(path: Path) -> np.ndarray:
    # numpy cannot map an empty file, and an empty split is a legal one
    try:
        return np.load(path, mmap_mode="r")
    except ValueError:
        return np.load(path)


def write_shard(
    folder: Path,
    examples: Iterable[Example],
    records: Iterable[Mapping[str, Any]],
    source: Sequence[int],
    sources: Sequence[str],
) -> None:
    """Write the rows of one split as they come; `source` gives each row's index into `sources`."""
    folder.mkdir(parents=True, exist_ok=True)
    input_offsets, label_offsets = array("q", [0]), array("q", [0])
    with _growing(folder / "input_ids.npy") as inputs, _growing(folder / "labels.npy") as labels:
        for example in examples:
            inputs.write(example.input_ids.astype("<i4").tobytes())
            labels.write(example.labels.astype("<i4").tobytes())
            input_offsets.append(input_offsets[-1] + len(example.input_ids))
            label_offsets.append(label_offsets[-1] + len(example.labels))
    np.save(folder / "input_offsets.npy", np.array(input_offsets, dtype=np.int64))
    np.save(folder / "label_offsets.npy", np.array(label_offsets, dtype=np.int64))
    np.save(folder / "source.npy", np.asarray(source, dtype=np.int32))
    write_json(folder / "sources.json", list(sources))
    with (folder / "rows.jsonl").open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


@contextmanager
def _growing(path: Path) -> Iterator[BinaryIO]:
    """A .npy file of 32-bit integers whose length is known, and written into its header, only at the end."""
    with path.open("wb") as file:
        _header(file, 0)
        start = file.tell()
        yield file
        length = (file.tell() - start) // 4
        file.seek(0)
        _header(file, length)
        assert file.tell() == start  # numpy pads headers so that a longer shape still fits


def _header(file: BinaryIO, length: int) -> None:
    header = {"descr": "<i4", "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, header)
