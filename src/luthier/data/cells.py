"""What stands in one column of a row, and why it may be of no use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Unusable(ValueError):
    """Why a row can be no record."""


def present(values: Mapping[str, Any], column: str) -> Any:
    """What stands in the column; Unusable where the row lacks it."""
    if column not in values:
        raise Unusable(f"no column '{column}'")
    return values[column]


def text(values: Mapping[str, Any], column: str) -> str:
    """The text in the column, null as no text; Unusable where the row lacks it or holds something else there."""
    value = present(values, column)
    return "" if value is None else is_text(value, column)


def is_text(value: Any, column: str) -> str:
    """The value, which must be text."""
    if not isinstance(value, str):
        raise Unusable(f"column '{column}' holds {type(value).__name__}, not text: write it in quotes")
    return value


def fields(values: Mapping[str, Any]) -> dict[str, str]:
    """The row's plain columns as text: what templates and baselines look up."""
    return {
        column: "" if value is None else str(value)
        for column, value in values.items()
        if value is None or isinstance(value, str | int | float | bool)
    }


def field(values: Mapping[str, Any], plain: Mapping[str, str], column: str) -> str:
    """One of the row's `fields`; Unusable where the row lacks the column or holds no plain value there."""
    present(values, column)
    if column not in plain:
        raise Unusable(f"column '{column}' holds {type(values[column]).__name__}, not text")
    return plain[column]
