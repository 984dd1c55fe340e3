"""The learning curves of a trained variant, read from its `metrics.jsonl`, with the verdict on them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from luthier.core.files import read_jsonl
from luthier.evaluate.verdict import judge


def read_curve(folder: Path) -> dict[str, Any]:
    """`train` and `validation` as lists of {"step", "loss"} (nats per token), the `verdict` and its `rule`.

    `folder` is the variant's in stage 4. Validation entries carry further metrics where training measured them.
    """
    lines = read_jsonl(folder / "metrics.jsonl") if (folder / "metrics.jsonl").is_file() else []
    train = [{"step": line["step"], "loss": line["loss"]} for line in lines if "loss" in line]
    validation = [{"step": line["step"], **line["validation"]} for line in lines if "validation" in line]
    verdict = judge(
        [(point["step"], point["loss"]) for point in train],
        [(point["step"], point["loss"]) for point in validation if "loss" in point],
    )
    return {"train": train, "validation": validation, "verdict": verdict.verdict, "rule": verdict.rule}
