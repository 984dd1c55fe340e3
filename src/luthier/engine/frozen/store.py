"""States of rows in a file, written once and read back in any order, also by a run that goes on after a crash.

A row's place follows from its tokens' place in the shard, so that the file needs no index and has holes where rows
were never written. Beside it stands one checksum a row, written after the row: a row without one, or with another,
is not there. The file is read and written by plain calls rather than mapped into memory: mapped pages would count as
this process's memory, and a full disk would end it by a signal.

Shapes: T tokens of a row, D width.
"""

from __future__ import annotations

import os
import shutil
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from luthier.core.files import read_json, write_json

STATES, SUMS, HEADER = "states.bin", "sums.bin", "header.json"
SUM = np.dtype("<u4")


class Store:
    """The states (T, D) of a shard's rows; `offsets` (rows + 1,) are where each begins among the shard's tokens."""

    def __init__(self, folder: Path, offsets: np.ndarray, width: int, dtype: torch.dtype) -> None:
        """Opens what `folder` holds of the same rows, width and type, and begins anew on anything else."""
        self.folder, self._offsets, self._width, self.dtype = folder, offsets, width, dtype
        self._row_bytes = width * dtype.itemsize  # of a token
        header = {"tokens": int(offsets[-1]), "rows": len(offsets) - 1, "width": width, "dtype": str(dtype)}
        if not _same(folder / HEADER, header):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            write_json(folder / HEADER, header)
        self._states, self._written = (
            os.open(folder / name, os.O_RDWR | os.O_CREAT, 0o644) for name in (STATES, SUMS)
        )
        self._sums = np.zeros(len(offsets) - 1, dtype=SUM)
        before = np.frombuffer(os.pread(self._written, self._sums.nbytes, 0), dtype=np.uint8)
        self._sums.view(np.uint8)[: len(before)] = before
        self._checked = self._sums == 0  # rows of an earlier process are read with care, once

    def holds(self, row: int) -> bool:
        """Whether the row was written."""
        return bool(self._sums[row])

    def length(self, row: int) -> int:
        """The tokens of a row."""
        return int(self._offsets[row + 1] - self._offsets[row])

    def write(self, row: int, states: Tensor) -> None:
        """Keep the states (T, D) of a row. Errors: OSError where the disk does not take them."""
        body = _bytes(states.to("cpu", self.dtype).contiguous())
        _all(os.pwrite(self._states, body, self._place(row)), len(body), row)
        self._sums[row] = _sum(body)
        self._checked[row] = True
        _all(os.pwrite(self._written, self._sums[row].tobytes(), row * SUM.itemsize), SUM.itemsize, row)

    def read(self, row: int, into: Tensor) -> bool:
        """Fill `into` (T, D), of the store's type, with a row that was written; False where it is damaged, and gone.

        Errors: OSError where the disk does not give it.
        """
        body = _bytes(into)
        whole = os.preadv(self._states, [body], self._place(row)) == len(body)
        if whole and (self._checked[row] or _sum(body) == self._sums[row]):
            self._checked[row] = True
            return True
        self._sums[row], self._checked[row] = 0, True
        return False

    @property
    def bytes(self) -> int:
        """What all rows that were written take on disk."""
        rows = np.flatnonzero(self._sums)
        return int((self._offsets[rows + 1] - self._offsets[rows]).sum()) * self._row_bytes

    def clear(self) -> None:
        """Give the disk back what the rows take."""
        self._sums[:] = 0
        with suppress(OSError):
            os.ftruncate(self._written, 0)
            os.ftruncate(self._states, 0)

    def close(self) -> None:
        """Let go of the files."""
        os.close(self._states)
        os.close(self._written)

    def _place(self, row: int) -> int:
        return int(self._offsets[row]) * self._row_bytes


def _same(path: Path, header: dict[str, object]) -> bool:
    try:
        return read_json(path) == header
    except (OSError, ValueError):
        return False


def _bytes(states: Tensor) -> memoryview:
    return states.view(torch.uint8).numpy().reshape(-1).data


def _sum(body: memoryview) -> int:
    return zlib.crc32(body) or 1  # 0 says that there is nothing


def _all(written: int, wanted: int, row: int) -> None:
    if written != wanted:
        raise OSError(f"{written} of {wanted} bytes of row {row} were written")
