"""Which spooled rows stay, and in which split: copies and leaks are found here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from luthier.core.errors import UserError
from luthier.core.events import emit, warn
from luthier.core.records import Record, full_text, record_id
from luthier.data.duplicates import Neighbours, near_pairs, signatures
from luthier.data.intake import GENERAL, POOL, Intake, pool_sizes
from luthier.data.ledger import Ledger
from luthier.data.split import SPLITS, split_rows
from luthier.data.spool import Spool
from luthier.recipe.schema import Data

SHOWN = 3  # pairs in the card
EXCERPT = 400  # characters of each


@dataclass
class Found:
    """What the card says about rows that are alike."""

    duplicates: int = 0
    near_duplicates: int | None = None  # None: not looked for
    near_leaks: int | None = None
    examples: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


class Sieve:
    """Takes rows out of the spool's destinations, with the books kept."""

    def __init__(self, data: Data, seed: int, spool: Spool, ledger: Ledger) -> None:
        self._data, self._seed, self._spool, self._ledger = data, seed, spool, ledger
        self.found = Found()

    def splits(self, intake: Intake) -> dict[str, list[int]]:
        """The rows of train, validation, test and, where the recipe names it, general, as they were read."""
        rows = {name: self._without_copies(own) for name, own in intake.rows.items()}
        near = self._signatures() if self._data.near_duplicates != "off" else None
        if near is not None:
            self.found.near_duplicates = self.found.near_leaks = 0
            rows = {name: self._near(own, near) for name, own in rows.items()}
        result = self._share_out(rows)
        result = self._without_leaks(result)
        if near is not None:
            result["train"] = self._near_leaks(result, near)
        _refuse_empty(result, self._data)
        names = [*SPLITS, *([GENERAL] if GENERAL in result else [])]
        return {name: result.get(name, []) for name in names}

    def _share_out(self, rows: Mapping[str, list[int]]) -> dict[str, list[int]]:
        pool = rows[POOL]
        if not pool:
            raise UserError(
                f"no row is left to train on ({self._gone()}): see rejected.jsonl and removed.jsonl for the reason "
                "of each (rows over model.context go under too_long; data.too_long: truncate keeps them)"
            )
        keys = [self._spool.groups[row] or self._spool.keys[row].hex() for row in pool]
        try:
            shares = split_rows(keys, pool_sizes(self._data), self._seed, self._data.split.by)
        except UserError as error:
            raise UserError(f"{error} ({self._gone()})") from None
        own = {name: list(taken) for name, taken in rows.items() if name != POOL}
        return own | {name: [pool[place] for place in places] for name, places in shares.items()}

    def _gone(self) -> str:
        """How many rows came in, and what has become of those that are not there any more."""
        counts = self._ledger.counts()
        gone = {"rejected": counts.rejected, **counts.removed}
        return f"{counts.total} rows came in" + "".join(f", {gone[why]} {why}" for why in gone if gone[why])

    def _without_copies(self, rows: Sequence[int]) -> list[int]:
        """The rows without those whose text an earlier one has, where the recipe removes them."""
        first: dict[bytes, int] = {}
        copies = [row for row in rows if first.setdefault(self._spool.keys[row], row) != row]
        self.found.duplicates += len(copies)
        self._show("duplicates", ((row, first[self._spool.keys[row]], 1.0) for row in copies))
        return self._drop(rows, copies, "duplicates") if self._data.duplicates == "remove" else list(rows)

    def _signatures(self) -> np.ndarray:
        return signatures(full_text(self._spool.record(row)) for row in range(len(self._spool)))

    def _neighbours(self, near: np.ndarray) -> Neighbours:
        return Neighbours(near, lambda row: full_text(self._spool.record(row)), self._data.similarity)

    def _near(self, rows: Sequence[int], near: np.ndarray) -> list[int]:
        """The rows without near-duplicates of earlier ones, where the recipe removes them."""
        remove = self._data.near_duplicates == "remove"
        pairs = list(near_pairs(rows, self._neighbours(near), keep_all=not remove))
        self.found.near_duplicates = (self.found.near_duplicates or 0) + len(pairs)
        self._show("near_duplicates", pairs)
        return self._drop(rows, [row for row, _, _ in pairs], "near_duplicates") if remove else list(rows)

    def _without_leaks(self, splits: dict[str, list[int]]) -> dict[str, list[int]]:
        """The splits without training rows that are held out too, and without validation rows that the test has."""
        result = dict(splits)
        for name, against in (("validation", ("test",)), ("train", ("validation", "test", GENERAL))):
            held_out = {self._spool.keys[row]: row for other in against for row in result.get(other, ())}
            leaks = [row for row in result.get(name, ()) if self._spool.keys[row] in held_out]
            if leaks:
                self._show("leak", ((row, held_out[self._spool.keys[row]], 1.0) for row in leaks))
                result[name] = self._drop(result[name], leaks, "leak")
                others = " or ".join(other for other in against if other in result)
                warn(
                    "data.leak", f"{len(leaks)} {name} rows are in {others} too: taken out of {name}", rows=len(leaks)
                )
        return result

    def _near_leaks(self, splits: Mapping[str, list[int]], near: np.ndarray) -> list[int]:
        """The training rows, without those like a held-out row where the recipe removes near-duplicates."""
        neighbours = self._neighbours(near)
        for name in ("validation", "test", GENERAL):
            for row in splits.get(name, ()):
                neighbours.add(row)
        pairs = [(row, *found) for row in splits["train"] if (found := neighbours.find(row)) is not None]
        self.found.near_leaks = len(pairs)
        self._show("near_leaks", pairs)
        if not pairs:
            return splits["train"]
        like = f"{len(pairs)} training rows are nearly the same as a held-out row"
        if self._data.near_duplicates == "remove":
            emit("data.near_leaks", f"{like}: taken out of train", rows=len(pairs))
            return self._drop(splits["train"], [row for row, _, _ in pairs], "near_duplicates")
        warn("data.near_leaks", f"{like}: data.near_duplicates: remove takes them out", rows=len(pairs))
        return splits["train"]

    def _drop(self, rows: Sequence[int], gone: Iterable[int], setting: str) -> list[int]:
        out = set(gone)
        for row in sorted(out):
            record = self._spool.record(row)
            self._ledger.remove(setting, record.origin, record_id(record))
        return [row for row in rows if row not in out]

    def _show(self, kind: str, pairs: Iterable[tuple[int, int, float]]) -> None:
        """Keep the first few pairs for the card."""
        shown = self.found.examples.setdefault(kind, [])
        for (row, other, similarity), _ in zip(pairs, range(SHOWN - len(shown)), strict=False):
            described = [_describe(self._spool.record(r)) for r in (row, other)]
            shown.append({"row": described[0], "like": described[1], "similarity": round(similarity, 4)})


def _describe(record: Record) -> dict[str, Any]:
    return {"id": record_id(record), "origin": str(record.origin), "text": full_text(record)[:EXCERPT]}


def _refuse_empty(splits: Mapping[str, Sequence[int]], data: Data) -> None:
    for name, rows in splits.items():
        asked = getattr(data.split, name, "")
        if not rows and asked not in (0, 0.0):
            why = (
                "all its rows are held out too" if name == "train" else "all its rows are rejected, removed or leaks"
            )
            raise UserError(f"the split {name} is empty: {why}: give it other rows")
