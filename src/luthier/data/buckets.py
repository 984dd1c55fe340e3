"""Which rows may be near-duplicates: those whose MinHash signatures agree in a whole band.

Each band of each signature is a bucket. Only buckets that two rows or more fall into are kept, as flat arrays: a row
that is like no other costs 4 bytes, any other 16 for each of its buckets.
"""

from __future__ import annotations

import numpy as np

from luthier.data.signatures import HASHES, MIX, Signatures

MISSED = 1e-3  # chance that a pair at the threshold is never proposed
CROWD = 128  # rows of a bucket that later ones are compared with: the first of them
READ = 1 << 14  # signatures that are read at once


def bands(similarity: float) -> tuple[int, int]:
    """How many bands of how many hashes: the widest bands whose chance to miss a pair at the threshold is MISSED."""
    widths = [r for r in range(1, 17) if (1 - similarity**r) ** (HASHES // r) <= MISSED]
    width = max(widths, default=1)
    return HASHES // width, width


class Buckets:
    """The shared buckets of signatures (rows, HASHES): of each row, which they are; of each, how much room it has.

    `ends` (buckets + 1,) are running sums of the room: bucket i has the places from `ends[i]` to `ends[i + 1]`.
    """

    def __init__(self, signatures: Signatures, similarity: float) -> None:
        rows, buckets, capacities = [np.zeros(0, np.int32)], [np.zeros(0, np.int32)], []
        number = 0
        count, width = bands(similarity)
        for band in range(count):
            own, bucket, sizes = _shared(_keys(signatures, band * width, width))
            rows.append(own)
            buckets.append(bucket + number)
            capacities.append(np.minimum(sizes, CROWD))
            number += len(sizes)
        owner = np.concatenate(rows)
        order = np.argsort(owner, kind="stable")
        self.of_row = np.concatenate(buckets)[order]
        self.starts = np.searchsorted(owner[order], np.arange(len(signatures) + 1)).astype(np.int32)
        self.ends = np.cumsum(np.concatenate([[0], *capacities]), dtype=np.int64)

    def of(self, row: int) -> np.ndarray:
        """The numbers of the buckets that the row shares with another."""
        return self.of_row[self.starts[row] : self.starts[row + 1]]


def _keys(signatures: Signatures, first: int, width: int) -> np.ndarray:
    """A 64-bit hash (rows,) of a band, the hashes from `first` on."""
    keys = np.empty(len(signatures), dtype=np.uint64)
    for start in range(0, len(keys), READ):
        part = signatures[start : start + READ][:, first : first + width].astype(np.uint64)
        mixed = np.full(len(part), MIX[0], dtype=np.uint64)
        for place in range(width):
            mixed = (mixed ^ part[:, place]) * MIX[place % len(MIX)]
            mixed ^= mixed >> np.uint64(31)
        keys[start : start + READ] = mixed
    return keys


def _shared(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of all rows that share their key with another: the row, the number of its bucket; and the buckets' sizes."""
    order = np.argsort(keys, kind="stable").astype(np.int32)
    keys = keys[order]
    same = keys[1:] == keys[:-1]
    shared = np.zeros(len(keys), dtype=bool)
    shared[1:] |= same
    shared[:-1] |= same
    first = shared.copy()
    first[1:] &= ~same
    bucket = np.cumsum(first[shared], dtype=np.int32) - 1
    return order[shared], bucket, np.bincount(bucket).astype(np.int32)
