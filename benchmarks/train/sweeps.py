"""Throughput against the length of sequences and the width of the model: Luthier beside TRL as run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.train.cases import ROWS, SMALLER, TOY, Cell
from benchmarks.train.cell import Bench, Plan, measure
from benchmarks.train.verdict import largest, ratios

LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192)
WIDTHS = (256, 512, 768, 1024)
TOKENS = 4096  # of a step, where sequences are shorter
ROUNDS = 2
OVER = 128  # tokens of prompt, answer and stop that a row has beside its text, at most
LETTERS = 4.0  # of a token, about


def lengths(plan: Plan, quick: bool, say: Callable[[str], None]) -> tuple[str, dict[str, Any]]:
    """Rows of about one length; as many in a step as make 4,096 tokens."""
    asked = (32, 64) if quick else LENGTHS
    base = TOY if quick else SMALLER
    rows = []
    for length in asked:
        own = replace(plan, rows=plan.work / f"rows-{length}.jsonl", rounds=ROUNDS)
        plan.work.mkdir(parents=True, exist_ok=True)
        write_rows(own.texts, own.rows, length)
        model = replace(base, name=f"{base.name}-long", context=max(asked) * 2)
        cell = Cell(f"length {length}", model, "fp32", "lora", 1e-3)
        rows.append({"length": length} | _measured(cell, own, max((256 if quick else TOKENS) // length, 1)))
        say(_line(rows[-1]))
    return "Tokens per second by the length of sequences, LoRA in fp32, vocabulary 8,000", {"rows": rows}


def widths(plan: Plan, quick: bool, say: Callable[[str], None]) -> tuple[str, dict[str, Any]]:
    """Models of one depth."""
    rows = []
    for width in (32, 64) if quick else WIDTHS:
        base = TOY if quick else SMALLER
        head = 16 if quick else 64
        model = replace(
            base,
            name=f"{base.name}-{width}",
            hidden=width,
            heads=width // head,
            head=head,
            inner=round(width * SMALLER.inner / SMALLER.hidden / 64) * 64,
        )
        cell = Cell(f"width {width}", model, "fp32", "lora", 1e-3)
        rows.append({"width": width} | _measured(cell, replace(plan, rounds=ROUNDS), ROWS))
        say(_line(rows[-1]))
    return "Tokens per second by the model's width, LoRA in fp32, vocabulary 8,000", {"rows": rows}


def _measured(cell: Cell, plan: Plan, at_a_time: int) -> dict[str, Any]:
    bench = Bench(cell, plan, at_a_time)
    found = measure(bench, tune=False)
    read = [len(row.input_ids) for step in bench.examples.steps() for row in step]
    apart = largest(*(side["losses"] for side in found["sides"].values()))
    return {**found, "mean_length": sum(read) / len(read), "ratios": ratios(found), "losses_apart": apart}


def _line(row: dict[str, Any]) -> str:
    sides = {name: round(side["tokens_per_second"]) for name, side in row["sides"].items()}
    ratio = next(iter(row["ratios"].values()))
    return json.dumps({"cell": row["cell"], "mean_length": row["mean_length"], **sides, **ratio})


def write_rows(texts: Path, out: Path, length: int, count: int = 400) -> None:
    """Rows whose prompt is dialogues end to end, cut so that a row has about so many tokens."""
    with texts.open(encoding="utf-8") as file:
        read = [json.loads(line) for line in file]
    flow = "\n".join(row["dialogue"] for row in read)
    summary = [row["summary"] for row in read if len(row["summary"]) < 100]
    room = max(round((length - 24) * LETTERS) - 100, 16)
    with out.open("w", encoding="utf-8") as file:
        for i in range(count):
            start = i * room % max(len(flow) - room, 1)
            row = {"dialogue": flow[start : start + room], "summary": summary[i % len(summary)]}
            file.write(json.dumps(row) + "\n")
