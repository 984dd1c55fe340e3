"""Texts that are nearly the same, found exactly: every pair whose shingles overlap enough, and no other.

A text is the set of its character 5-shingles (hashed to 64 bits); two texts are as similar as the Jaccard index of
their sets. Of a pair with Jaccard >= t, at least ceil(t |A|) shingles of A lie in B, so that of any p shingles of A
at least ceil(t |A|) - (|A| - p) do: only B's that share so many of A's p rarest shingles are compared in full.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WIDTH = 5
_FACTORS = np.random.default_rng(0).integers(1, 2**63, WIDTH, dtype=np.uint64) | np.uint64(1)


@dataclass(frozen=True)
class Pair:
    """Row `left` of the one collection and row `right` of the other."""

    left: int
    right: int
    similarity: float


def shingles(text: str) -> np.ndarray:
    """The hashes of the text's character 5-shingles (unique, sorted); case and white space do not count."""
    letters = " ".join(text.casefold().split())
    codes = np.frombuffer(letters.encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    if len(codes) < WIDTH:
        codes = np.pad(codes, (0, WIDTH - len(codes)))
    windows = np.lib.stride_tricks.sliding_window_view(codes, WIDTH)
    return np.unique((windows * _FACTORS).sum(axis=1, dtype=np.uint64))


def similar(left: Sequence[str], right: Sequence[str], threshold: float) -> list[Pair]:
    """All pairs with a Jaccard index of at least `threshold`, in the order of `left`."""
    if not left or not right:
        return []
    others = [shingles(text) for text in right]
    postings = np.concatenate(others)
    owner = np.repeat(np.arange(len(others)), [len(other) for other in others])
    order = np.argsort(postings, kind="stable")
    postings, owner = postings[order], owner[order]
    pairs = []
    for place, text in enumerate(left):
        own = shingles(text)
        for other in _candidates(own, postings, owner, len(others), threshold):
            value = jaccard(own, others[other])
            if value >= threshold:
                pairs.append(Pair(place, int(other), value))
    return pairs


def _candidates(
    own: np.ndarray, postings: np.ndarray, owner: np.ndarray, others: int, threshold: float
) -> np.ndarray:
    """The texts that share enough of the rarest shingles of `own`."""
    shared = max(math.ceil(threshold * len(own)), 1)
    looked_up = len(own) - shared // 2
    needed = max(shared - (len(own) - looked_up), 1)
    starts = np.searchsorted(postings, own, side="left")
    ends = np.searchsorted(postings, own, side="right")
    rarest = np.argsort(ends - starts, kind="stable")[:looked_up]
    found = [owner[starts[i] : ends[i]] for i in rarest if ends[i] > starts[i]]
    if not found:
        return np.zeros(0, dtype=int)
    return np.flatnonzero(np.bincount(np.concatenate(found), minlength=others) >= needed)


def jaccard(left: np.ndarray, right: np.ndarray) -> float:
    """Size of the intersection over size of the union of two sets of unique values."""
    both = len(np.intersect1d(left, right, assume_unique=True))
    return both / (len(left) + len(right) - both)
