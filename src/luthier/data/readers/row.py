"""What a reader yields: a row of named values, or a place where no row could be read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from luthier.core.records import Origin


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it stands in its source."""

    origin: Origin
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read, why, and what stands there."""

    origin: Origin
    reason: str
    raw: Any


@dataclass(frozen=True, slots=True)
class Bad:
    """A format's verdict on one row, before it is known which source the file belongs to."""

    reason: str
    raw: Any


Found = tuple[int, Mapping[str, Any] | Bad]  # the row's number from 1, and what is there
