"""Luthier's side: a recipe file, and `luthier train` as a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from benchmarks.train.cases import ALPHA, CLIP, RANK, ROWS, SEED, Cell

PROMPT = "Summarise the conversation.\n\n{dialogue}\n\nSummary:"
AT_ONCE = 1 << 16  # tokens of a micro-batch: a step is one


def recipe(cell: Cell, base: Path, rows: Path, steps: int, at_a_time: int = ROWS) -> dict[str, Any]:
    """The recipe of a cell, with the settings that the peers are given too."""
    method: Any = "full" if cell.full else {"name": "lora", "rank": RANK, "alpha": ALPHA}
    return {
        "name": "bench",
        "seed": SEED,
        "model": {"base": str(base), "context": cell.model.context},
        "data": {
            "sources": str(rows),
            "columns": {"prompt": "dialogue", "completion": "summary"},
            "prompt": PROMPT,
            "duplicates": "keep",
            "near_duplicates": "off",
            "split": {"validation": 0, "test": 0},
        },
        "plan": {"preflight": "warn"},
        "train": {
            "method": method,
            "rows_per_step": at_a_time,
            "micro_tokens": AT_ONCE,
            "max_steps": steps,
            "epochs": 1000,
            "optimizer": {"name": "adamw", "weight_decay": 0},
            "learning_rate": cell.rate,
            "schedule": "constant",
            "warmup": 0,
            "clip": CLIP,
            "precision": cell.precision,
            "validate_every": 0,
        },
    }


def write(folder: Path, body: dict[str, Any]) -> Path:
    """The recipe as a file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(body, sort_keys=False), encoding="utf-8")
    return path


def command(path: Path, run: Path) -> list[str]:
    """What a user would type."""
    return [sys.executable, "-m", "luthier", "train", str(path), "--out", str(run)]


def journal(run: Path, cell: Cell) -> Path:
    """The lines of its steps."""
    return run / "4-train" / cell.method / "metrics.jsonl"
