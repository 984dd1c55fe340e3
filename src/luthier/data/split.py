"""Sharing rows out to train, validation and test: by seed and content, groups together."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import compress

import numpy as np

from luthier.core.errors import UserError

SPLITS = ("train", "validation", "test")


def split_rows(
    keys: Sequence[str], sizes: Mapping[str, int | float], seed: int, by: str | None = None
) -> dict[str, np.ndarray]:
    """The rows (indices into `keys`, in order) of each split that `sizes` names, and of `train`.

    Rows with the same key stay together: a group's value, or what identifies the row's content. Whether a row goes
    to a split depends on the hash of its key and the split's name alone, so that rows added elsewhere move only as
    many rows as the changed sizes ask for. A size below 1 is a share of all rows, otherwise a number of rows.

    The keys are gone through one by one, once and then once for each split, and may be made as they are asked for;
    held are some 60 bytes a row.

    Raises UserError where a split would be empty or nothing would be left to train on.
    """
    hashes = np.fromiter((_hash(key) for key in keys), dtype="S16", count=len(keys))
    _, first, group, members = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
    del hashes
    left = np.ones(len(first), dtype=bool)
    result: dict[str, np.ndarray] = {}
    for name, size in sizes.items():
        wanted = _target(name, size, len(keys))
        taken = _take(keys, first, members, left, wanted, seed, name)
        if wanted and not len(taken):
            raise UserError(_cannot(name, wanted, len(keys), by))
        chosen = np.zeros(len(first), dtype=bool)
        chosen[taken] = True
        left &= ~chosen
        result[name] = np.flatnonzero(chosen[group])
    result["train"] = np.flatnonzero(left[group])
    if not len(result["train"]):
        asked = " and ".join(f"{name} {size}" for name, size in sizes.items())
        raise UserError(
            f"data.split: {asked} leave none of the {len(keys)} rows to train on: make them smaller"
            + (f", or split by a column with more values than '{by}'" if by else "")
        )
    return result


def _target(name: str, size: int | float, rows: int) -> int:
    """How many rows are asked for; a share of at least something is at least one row."""
    if isinstance(size, float) and size < 1:
        return max(1, round(size * rows)) if size > 0 else 0
    if size >= rows:
        raise UserError(f"data.split.{name} = {int(size)} rows, but only {rows} can be used: write a smaller number")
    return int(size)


def _take(
    keys: Iterable[str], first: np.ndarray, members: np.ndarray, left: np.ndarray, wanted: int, seed: int, name: str
) -> list[int]:
    """Groups in the order of their hashes, each taken if it brings the number of rows nearer to the one wanted.

    Of each group (groups,), `first` is the row that names its key, `members` its size, `left` whether it is free.
    """
    if not wanted:
        return []
    candidates = np.flatnonzero(left)
    candidates = candidates[np.argsort(first[candidates])]  # as their keys come
    asked = np.zeros(int(first.max(initial=-1)) + 1, dtype=bool)
    asked[first[candidates]] = True
    ranks = (_hash(f"{seed}\n{name}\n{key}") for key in compress(keys, asked))
    order = np.argsort(np.fromiter(ranks, dtype="S16", count=len(candidates)))
    taken: list[int] = []
    rows = 0
    for at in order:
        if rows >= wanted:
            break
        group = int(candidates[at])
        size = int(members[group])
        if abs(rows + size - wanted) < wanted - rows:
            taken.append(group)
            rows += size
    return taken


def _hash(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


def _cannot(name: str, wanted: int, rows: int, by: str | None) -> str:
    if by is None:
        return f"data.split.{name} would be empty: its {wanted} of {rows} rows are all copies; write a larger size"
    return (
        f"data.split.{name} would be empty: no value of '{by}' has as few as {wanted} of the {rows} rows; write a "
        "larger size, or split by a column with more values"
    )
