"""Sharing rows out to train, validation and test: by seed and content, groups together."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from luthier.core.errors import UserError

SPLITS = ("train", "validation", "test")


def split_rows(
    keys: Sequence[str], sizes: Mapping[str, int | float], seed: int, by: str | None = None
) -> dict[str, list[int]]:
    """The rows (indices into `keys`, in order) of each split that `sizes` names, and of `train`.

    Rows with the same key stay together: a group's value, or what identifies the row's content. Whether a row goes
    to a split depends on the hash of its key and the split's name alone, so that rows added elsewhere move only as
    many rows as the changed sizes ask for. A size below 1 is a share of all rows, otherwise a number of rows.

    Raises UserError where a split would be empty or nothing would be left to train on.
    """
    members: dict[str, list[int]] = {}
    for row, key in enumerate(keys):
        members.setdefault(key, []).append(row)
    result: dict[str, list[int]] = {}
    for name, size in sizes.items():
        wanted = _target(name, size, len(keys))
        taken = _take(members, wanted, seed, name)
        if wanted and not taken:
            raise UserError(_cannot(name, wanted, len(keys), by))
        result[name] = sorted(row for key in taken for row in members.pop(key))
    result["train"] = sorted(row for rows in members.values() for row in rows)
    if not result["train"]:
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


def _take(members: Mapping[str, Sequence[int]], wanted: int, seed: int, name: str) -> list[str]:
    """Keys in the order of their hashes, each taken if it brings the number of rows nearer to the one wanted."""
    taken: list[str] = []
    rows = 0
    for key in sorted(members, key=lambda key: _rank(seed, name, key)):
        if rows >= wanted:
            break
        size = len(members[key])
        if abs(rows + size - wanted) < wanted - rows:
            taken.append(key)
            rows += size
    return taken


def _rank(seed: int, name: str, key: str) -> bytes:
    return hashlib.blake2b(f"{seed}\n{name}\n{key}".encode(), digest_size=16).digest()


def _cannot(name: str, wanted: int, rows: int, by: str | None) -> str:
    if by is None:
        return f"data.split.{name} would be empty: its {wanted} of {rows} rows are all copies; write a larger size"
    return (
        f"data.split.{name} would be empty: no value of '{by}' has as few as {wanted} of the {rows} rows; write a "
        "larger size, or split by a column with more values"
    )
