"""What a check says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """`detail` says what is the matter, in which row, and what to do; for `ok`, what was looked at."""

    status: Status
    detail: str


def ok(detail: str) -> Finding:
    """Nothing is the matter."""
    return Finding("ok", detail)


def warning(detail: str) -> Finding:
    """Somebody should look; training goes on."""
    return Finding("warning", detail)


def error(detail: str) -> Finding:
    """What would be trained is not what was meant."""
    return Finding("error", detail)


def some(places: Sequence[str], most: int = 3) -> str:
    """The first few places, and how many more there are."""
    shown = ", ".join(places[:most])
    return shown if len(places) <= most else f"{shown} and {len(places) - most} more"


def excerpt(text: str, most: int = 60) -> str:
    """The beginning of a text in quotation marks, on one line."""
    line = " ".join(text.split())
    return f"'{line}'" if len(line) <= most else f"'{line[:most]}...'"
