"""Two values that should be one, cut down to where they part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

BEFORE, AFTER = 12, 28  # characters, or entries, shown around the first difference
SHORT = 24  # entries up to which both lists are shown whole


def contrast(trained: Any, export: Any) -> str:
    """`trained ..., export ...`, each cut down to the first place where they part."""
    ours, theirs = _narrow(trained, export)
    return f"trained {ours}, export {theirs}"


def _narrow(trained: Any, export: Any) -> tuple[str, str]:
    if isinstance(trained, dict) and isinstance(export, dict):
        key = next(key for key in [*trained, *export] if trained.get(key) != export.get(key))
        ours, theirs = _narrow(trained.get(key), export.get(key))
        return f"{key} = {ours}", f"{key} = {theirs}"
    if isinstance(trained, str) and isinstance(export, str):
        at = max(0, _parting(trained, export) - BEFORE)
        return _excerpt(trained, at), _excerpt(export, at)
    if isinstance(trained, list) and isinstance(export, list) and len(trained) + len(export) > SHORT:
        at = max(0, _parting(trained, export) - 2)
        return f"{trained[at : at + BEFORE]} from {at}", f"{export[at : at + BEFORE]} from {at}"
    return f"{trained!r:.80}", f"{export!r:.80}"


def _parting(a: Sequence[Any], b: Sequence[Any]) -> int:
    """The first place where they differ, or the end of the shorter one."""
    shared = min(len(a), len(b))
    return next((at for at in range(shared) if a[at] != b[at]), shared)


def _excerpt(text: str, at: int) -> str:
    cut = text[at : at + BEFORE + AFTER]
    return repr(f"{'…' if at else ''}{cut}{'…' if len(text) > at + len(cut) else ''}")
