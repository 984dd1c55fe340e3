"""Rows that say the same: exactly, by the hash of their normalised text; nearly, by MinHash and exact Jaccard.

Near-duplicates are judged by the Jaccard similarity of their sets of character 5-shingles (Broder 1997). MinHash
signatures (rensa) with locality-sensitive hashing propose candidates; each is verified on the texts themselves, so
that whatever is reported is true and only recall depends on the hashing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache

import numpy as np

from luthier.core.errors import UserError
from luthier.data.buckets import Buckets
from luthier.data.signatures import HASHES, SHINGLE, Signatures, normalise

DOUBT = 4.0  # standard deviations of the signature's estimate within which a candidate is verified
LOWEST = 0.3  # below it nearly every two texts of one language are candidates
RECENT = 256  # texts whose shingles are kept: those that are alike often stand near each other


def firsts(keys: np.ndarray) -> np.ndarray:
    """For each key the place of the first that is the same (keys,)."""
    order = np.argsort(keys, kind="stable")
    new = np.ones(len(keys), dtype=bool)
    new[1:] = keys[order[1:]] != keys[order[:-1]]
    found = np.empty(len(keys), dtype=np.int64)
    found[order] = order[new][np.cumsum(new) - 1]
    return found


def lasts(keys: np.ndarray, among: np.ndarray) -> np.ndarray:
    """For each key the place of the last in `among` that is the same, -1 where there is none (keys,)."""
    if not len(among):
        return np.full(len(keys), -1)
    order = np.argsort(among, kind="stable")
    ordered = among[order]
    at = np.searchsorted(ordered, keys, side="right") - 1
    return np.where(ordered[at] == keys, order[at], -1)


def shingles(text: str) -> set[str]:
    """The set of character 5-shingles of the normalised text, case aside; a shorter text is its own only one."""
    text = normalise(text).casefold()
    return {text[i : i + SHINGLE] for i in range(max(len(text) - SHINGLE + 1, 1))}


def jaccard(a: set[str], b: set[str]) -> float:
    """Size of the intersection over size of the union."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


class Neighbours:
    """An index of rows that finds, for a row, the most similar of those added before it."""

    def __init__(self, signatures: Signatures, text_of: Callable[[int], str], similarity: float) -> None:
        if similarity < LOWEST:
            raise UserError(
                f"data.similarity = {similarity:g}: near-duplicates are looked for from {LOWEST} upwards; write a "
                "higher value, or near_duplicates: off"
            )
        self._signatures, self._buckets, self._similarity = signatures, Buckets(signatures, similarity), similarity
        self._least = similarity - DOUBT * (similarity * (1 - similarity) / HASHES) ** 0.5
        self._shingles = lru_cache(maxsize=RECENT)(lambda row: shingles(text_of(row)))
        self._added = np.zeros(int(self._buckets.ends[-1]), dtype=np.int32)
        self.clear()

    def clear(self) -> None:
        """Take every row out of the index."""
        self._free = self._buckets.ends[:-1].copy()  # of each bucket, where the next row goes

    def add(self, row: int) -> None:
        """Let later look-ups find this row."""
        own = self._buckets.of(row)
        own = own[self._free[own] < self._buckets.ends[own + 1]]
        self._added[self._free[own]] = row
        self._free[own] += 1

    def find(self, row: int) -> tuple[int, float] | None:
        """An added row with at least the similarity, and its exact Jaccard; None where there is none."""
        own = self._buckets.of(row)
        if not len(own):
            return None
        spans = zip(self._buckets.ends[own].tolist(), self._free[own].tolist(), strict=True)
        others = np.unique(np.concatenate([self._added[start:free] for start, free in spans]))
        others = others[others != row]
        estimate = (self._signatures[others] == self._signatures[row]).mean(axis=1)
        for place in np.argsort(-estimate, kind="stable"):
            if estimate[place] < self._least:
                return None
            other = int(others[place])
            exact = jaccard(self._shingles(row), self._shingles(other))
            if exact >= self._similarity:
                return other, exact
        return None


def near_pairs(rows: Iterable[int], neighbours: Neighbours, keep_all: bool) -> Iterator[tuple[int, int, float]]:
    """Each row with a near-duplicate before it in `rows`, that one, and their similarity.

    With `keep_all` every row is compared with; otherwise only rows that were not themselves found to be one.
    """
    for row in rows:
        found = neighbours.find(row)
        if found is not None:
            yield row, *found
        if found is None or keep_all:
            neighbours.add(row)
