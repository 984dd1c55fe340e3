"""The learning curves of a trained variant, read from its `metrics.jsonl`, with the verdict on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Any

from luthier.core.files import read_jsonl
from luthier.evaluate.verdict import judge


def read_curve(folder: Path) -> dict[str, Any]:
    """`train` and `validation` as lists of {"step", "loss"} (nats per token), the `verdict` and its `rule`.

    `folder` is the variant's in stage 4. Validation entries carry further metrics where training measured them; a
    loss that was not a number is None.
    """
    lines = read_jsonl(folder / "metrics.jsonl") if (folder / "metrics.jsonl").is_file() else []
    train = [{"step": line["step"], "loss": line["loss"]} for line in lines if "loss" in line]
    validation = [{"step": line["step"], **line["validation"]} for line in lines if "validation" in line]
    verdict = judge(points(train), points(validation))
    return {"train": train, "validation": validation, "verdict": verdict.verdict, "rule": verdict.rule}


def points(curve: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """The (step, loss) of a curve that `read_curve` gave; nan where the loss was not a number."""
    return [(entry["step"], nan if entry["loss"] is None else entry["loss"]) for entry in curve if "loss" in entry]
