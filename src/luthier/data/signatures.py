"""What is told apart and compared of a text: a key that copies share, and MinHash signatures of its shingles."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Protocol

import numpy as np

SHINGLE = 5  # characters
HASHES = 128  # of a signature
BATCH = 512  # texts hashed at once
MIX = np.array(
    [0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB, 0xD6E8FEB86659FD93, 0xA0761D6478BD642F],
    dtype=np.uint64,
)


class Signatures(Protocol):
    """Signatures (rows, HASHES), an array or on disk."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> np.ndarray: ...


def normalise(text: str) -> str:
    """The text by which rows are compared: Unicode NFC, runs of white space as one space."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def exact_key(text: str) -> bytes:
    """16 bytes that are the same exactly for texts that are the same once normalised."""
    return hashlib.blake2b(normalise(text).encode(), digest_size=16).digest()


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
    for place, factor in enumerate(MIX):
        mixed += points[place : len(points) - SHINGLE + 1 + place] * factor
    mixed ^= mixed >> np.uint64(29)
    mixed *= MIX[1]
    mixed ^= mixed >> np.uint64(32)
    ends = np.cumsum(lengths)
    within = np.ones(len(mixed), dtype=bool)
    for back in range(1, SHINGLE):  # windows that reach into the next text
        within[ends[:-1] - back] = False
    offsets = np.concatenate([[0], np.cumsum(lengths - SHINGLE + 1)]).astype(np.uint64)
    return np.ascontiguousarray(mixed[within]), offsets
