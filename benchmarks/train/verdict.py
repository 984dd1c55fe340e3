"""What the figures say: ratios against the targets, losses against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from statistics import median
from typing import Any

from benchmarks.train.cases import AS_RUN, Cell
from benchmarks.train.cell import LUTHIER

EXACT = 1e-4  # largest difference between the losses of two sides in fp32
HALF = 2e-3  # difference between a loss in bf16 and in fp32 that is always accepted
WORSE = 1.5  # and else, at most so many times the peer's own
AT_LEAST = 6  # steps that must be compared


def ratios(found: Mapping[str, Any]) -> dict[str, Any]:
    """Luthier's tokens per second over each peer's, of all steps and by round; each peer's memory over Luthier's."""
    own = found["sides"][LUTHIER]
    said = {}
    for name, side in found["sides"].items():
        if name == LUTHIER:
            continue
        rounds = [a / b for a, b in zip(own["by_round"], side["by_round"], strict=False)]
        said[name] = {
            "speed": own["tokens_per_second"] / side["tokens_per_second"],
            "by_round": [min(rounds), median(rounds), max(rounds)],
            "memory": side["peak_bytes"] / own["peak_bytes"],
        }
    return said


def met(cell: Cell, found: Mapping[str, Any]) -> dict[str, bool]:
    """Which of its targets a cell has reached; only those that were measured."""
    said = {}
    if cell.target is not None:
        against = found["ratios"]
        said["as run"] = against[AS_RUN.name]["speed"] >= cell.target.as_run
        said["memory"] = against[AS_RUN.name]["memory"] >= cell.target.memory
        if "tuned" in against:
            said["tuned"] = against["tuned"]["speed"] >= cell.target.tuned
    if cell.mfu is not None:
        said["mfu"] = found["sides"][LUTHIER]["mfu"] >= cell.mfu
    return said


def largest(one: Sequence[float], other: Sequence[float]) -> float:
    """The largest difference of the losses of the steps that both have made; infinite if these are too few."""
    pairs = list(zip(one, other, strict=False))
    return max(abs(a - b) for a, b in pairs) if len(pairs) >= AT_LEAST else float("inf")


def losses(cell: Cell, found: Mapping[str, Any], exact: Mapping[str, Sequence[float]]) -> dict[str, Any]:
    """How far losses lie apart: in fp32 those of the two sides, in bf16 each from the `exact` ones in fp32."""
    own, theirs = (found["sides"][name]["losses"] for name in (LUTHIER, AS_RUN.name))
    if cell.precision == "fp32":
        apart = {"Luthier and TRL": largest(own, theirs)}
        return {"apart": apart, "steps": min(len(own), len(theirs)), "equal": max(apart.values()) <= EXACT}
    apart = {
        "Luthier and TRL, fp32": largest(exact[LUTHIER], exact[AS_RUN.name]),
        "Luthier, bf16 and fp32": largest(own, exact[LUTHIER]),
        "TRL, bf16 and fp32": largest(theirs, exact[AS_RUN.name]),
    }
    allowed = max(HALF, WORSE * apart["TRL, bf16 and fp32"])
    own_error = apart["Luthier, bf16 and fp32"]
    equal = apart["Luthier and TRL, fp32"] <= EXACT and isfinite(own_error) and own_error <= allowed
    return {"apart": apart, "steps": min(len(own), len(exact[LUTHIER])), "equal": equal}
