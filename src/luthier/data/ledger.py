"""The books of the data stage: every row that comes in is kept, rejected with a reason, or removed by a setting."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from luthier.core.artefacts import Counts
from luthier.core.errors import UserError
from luthier.core.events import warn
from luthier.core.files import finite
from luthier.core.records import Origin

NAMED = 3  # rejected rows that an error names


class Ledger:
    """Counts rows as they come and go, and writes `rejected.jsonl` and `removed.jsonl`."""

    def __init__(self, folder: Path, rejected: TextIO, removed: TextIO) -> None:
        self._folder = folder
        self._rejected_file = rejected
        self._removed_file = removed
        self._first: list[str] = []
        self.read: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.removed: dict[str, Counter[str]] = {}

    def came(self, source: str) -> None:
        """A row of the source was read."""
        self.read[source] += 1

    def reject(self, origin: Origin, reason: str, raw: Any) -> None:
        """A row cannot be used; `raw` is what stands in its place."""
        self.rejected[origin.source] += 1
        self.reasons[reason] += 1
        if len(self._first) < NAMED:
            self._first.append(f"{origin}: {reason}")
        row = {"source": origin.source, "file": origin.file, "row": origin.row, "reason": reason, "raw": raw}
        self._rejected_file.write(json.dumps(finite(row), default=str, allow_nan=False) + "\n")

    def remove(self, setting: str, origin: Origin, id: str | None) -> None:
        """A setting takes a row out; a row beyond `rows` was never made a record and has no id."""
        self.removed.setdefault(setting, Counter())[origin.source] += 1
        row = {"setting": setting, "source": origin.source, "file": origin.file, "row": origin.row, "id": id}
        self._removed_file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def check(self, allowed: float) -> None:
        """Stop where more than the allowed share of the rows was rejected; warn where any was."""
        rejected, total = self.rejected.total(), self.read.total()
        if not rejected:
            return
        share = f"{rejected} of {total} rows cannot be used ({rejected / total:.1%})"
        self._rejected_file.flush()
        path = self._folder / "rejected.jsonl"
        if rejected > allowed * total:
            raise UserError(
                f"{share}, more than data.max_rejected = {allowed:.3g}: {'; '.join(self._first)}; all are in {path}: "
                "mend them, or allow a larger share"
            )
        warn("data.rejected", f"{share}: {'; '.join(self._first)}; all are in {path}", rows=rejected)

    def counts(self, source: str | None = None) -> Counts:
        """Where the rows of one source, or of all, have gone."""

        def of(counter: Counter[str]) -> int:
            return counter.total() if source is None else counter[source]

        removed = {setting: number for setting, counter in self.removed.items() if (number := of(counter))}
        kept = of(self.read) - of(self.rejected) - sum(removed.values())
        return Counts(of(self.read), kept, of(self.rejected), removed)


@contextmanager
def open_ledger(folder: Path) -> Iterator[Ledger]:
    """A ledger whose two files lie in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (
        (folder / "rejected.jsonl").open("w", encoding="utf-8") as rejected,
        (folder / "removed.jsonl").open("w", encoding="utf-8") as removed,
    ):
        yield Ledger(folder, rejected, removed)
