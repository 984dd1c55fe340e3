"""Rows that say the same: exactly, by the hash of their normalised text; nearly, by MinHash and exact Jaccard.

Near-duplicates are judged by the Jaccard similarity of their sets of character 5-shingles (Broder 1997). MinHash
signatures (rensa) with locality-sensitive hashing propose candidates; each is verified on the texts themselves, so
that whatever is reported is true and only recall depends on the hashing.
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

import numpy as np

from luthier.core.errors import UserError

SHINGLE = 5  # characters
HASHES = 128  # of a signature
MISSED = 1e-3  # chance that a pair at the threshold is never proposed
DOUBT = 4.0  # standard deviations of the signature's estimate within which a candidate is verified
BATCH = 512  # texts hashed at once
LOWEST = 0.3  # below it nearly every two texts of one language are candidates
_MIX = np.array(
    [0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F],
    dtype=np.uint64,
)


def normalise(text: str) -> str:
    """The text by which rows are compared: Unicode NFC, runs of white space as one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def exact_key(text: str) -> bytes:
    """16 bytes that are the same exactly for texts that are the same once normalised."""
    return hashlib.blake2b(normalise(text).encode(), digest_size=16).digest()


def shingles(text: str) -> set[str]:
    """The set of character 5-shingles of the normalised text, case aside; a shorter text is its own only one."""
    text = normalise(text).casefold()
    return {text[i : i + SHINGLE] for i in range(max(len(text) - SHINGLE + 1, 1))}


def jaccard(a: set[str], b: set[str]) -> float:
    """Size of the intersection over size of the union."""
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)


def signatures(texts: Iterable[str], seed: int = 0) -> np.ndarray:
    """MinHash signatures (texts, HASHES) of the texts' shingle sets."""
    from rensa import RMinHash  # pyright: ignore[reportAttributeAccessIssue]  (compiled, without stubs)

    blocks = [np.zeros((0, HASHES), dtype=np.uint32)]
    remaining = iter(texts)
    while batch := list(islice(remaining, BATCH)):
        hashes, offsets = _shingle_hashes([normalise(text).casefold() for text in batch])
        matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, offsets, HASHES, seed)
        blocks.append(np.array(matrix.to_rows(), dtype=np.uint32))
    return np.concatenate(blocks)


def _shingle_hashes(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """A 64-bit hash of each shingle of each text, end to end, and the offsets (texts + 1,) of the texts."""
    padded = [text.ljust(SHINGLE, "\0") for text in texts]
    points = np.frombuffer("".join(padded).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    lengths = np.array([len(text) for text in padded])
    mixed = np.zeros(len(points) - SHINGLE + 1, dtype=np.uint64)
    for place, factor in enumerate(_MIX):
        mixed += points[place : len(points) - SHINGLE + 1 + place] * factor
    mixed ^= mixed >> np.uint64(29)
    mixed *= _MIX[1]
    mixed ^= mixed >> np.uint64(32)
    ends = np.cumsum(lengths)
    within = np.ones(len(mixed), dtype=bool)
    for back in range(1, SHINGLE):  # windows that reach into the next text
        within[ends[:-1] - back] = False
    offsets = np.concatenate([[0], np.cumsum(lengths - SHINGLE + 1)]).astype(np.uint64)
    return np.ascontiguousarray(mixed[within]), offsets


def bands(similarity: float) -> tuple[int, int]:
    """How many bands of how many hashes: the widest bands whose chance to miss a pair at the threshold is MISSED."""
    widths = [r for r in range(1, 17) if (1 - similarity**r) ** (HASHES // r) <= MISSED]
    width = max(widths, default=1)
    return HASHES // width, width


class Neighbours:
    """An index of rows that finds, for a row, the most similar of those added before it."""

    def __init__(self, signatures: np.ndarray, text_of: Callable[[int], str], similarity: float) -> None:
        if similarity < LOWEST:
            raise UserError(
                f"data.similarity = {similarity:g}: near-duplicates are looked for from {LOWEST} upwards; write a "
                "higher value, or near_duplicates: off"
            )
        self._signatures = signatures
        self._similarity = similarity
        self._least = similarity - DOUBT * (similarity * (1 - similarity) / HASHES) ** 0.5
        self._shingles = lru_cache(maxsize=4096)(lambda row: shingles(text_of(row)))
        self._keys = _band_keys(signatures, *bands(similarity))
        self._buckets: dict[int, list[int]] = defaultdict(list)

    def add(self, row: int) -> None:
        """Let later look-ups find this row."""
        for key in self._keys[row].tolist():
            self._buckets[key].append(row)

    def find(self, row: int) -> tuple[int, float] | None:
        """An added row with at least the similarity, and its exact Jaccard; None where there is none."""
        proposed = {other for key in self._keys[row].tolist() for other in self._buckets.get(key, ())}
        proposed.discard(row)
        if not proposed:
            return None
        others = np.array(sorted(proposed))
        estimate = (self._signatures[others] == self._signatures[row]).mean(axis=1)
        for place in np.argsort(-estimate, kind="stable"):
            if estimate[place] < self._least:
                return None
            other = int(others[place])
            exact = jaccard(self._shingles(row), self._shingles(other))
            if exact >= self._similarity:
                return other, exact
        return None


def _band_keys(signatures: np.ndarray, count: int, width: int) -> np.ndarray:
    """One 64-bit bucket for each band of each row (rows, bands); bands never share one."""
    parts = signatures[:, : count * width].reshape(len(signatures), count, width).astype(np.uint64)
    keys = np.broadcast_to(np.arange(1, count + 1, dtype=np.uint64) * _MIX[0], parts.shape[:2]).copy()
    for place in range(width):
        keys = (keys ^ parts[:, :, place]) * _MIX[place % len(_MIX)]
        keys ^= keys >> np.uint64(31)
    return keys


def near_pairs(rows: Sequence[int], neighbours: Neighbours, keep_all: bool) -> Iterator[tuple[int, int, float]]:
    """Each row with a near-duplicate before it in `rows`, that one, and their similarity.

    With `keep_all` every row is compared with; otherwise only rows that were not themselves found to be one.
    """
    for row in rows:
        found = neighbours.find(row)
        if found is not None:
            yield row, *found
        if found is None or keep_all:
            neighbours.add(row)
