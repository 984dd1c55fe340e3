"""Training, Luthier beside TRL: tokens per second, memory and losses on the same examples from the same weights.

Every side is a process of its own, and they take turns. What is compared, and what each cell must reach, stands in
benchmarks/train/cases.py. Needs TRL 1.16 (`make bench-train` puts it beside the environment; LUTHIER_PEERS names
another folder) and DialogSum in LUTHIER_DATA. The losses of the two sides must be equal, else the exit code is 1.

Usage: python -m benchmarks.bench_train [table | lengths | widths] [--only CELL ...] [--rounds 5] [--quick]
writes benchmarks/results/train.json (train-lengths.json, train-widths.json) and the tables of docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks import record
from benchmarks.train.cases import CELLS, TOYS, Cell
from benchmarks.train.cell import Bench, Plan, environment, measure, reference
from benchmarks.train.sweeps import lengths, widths
from benchmarks.train.tables import update
from benchmarks.train.verdict import losses, met, ratios

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Measure what is asked for, write it down; the exit code."""
    asked = _arguments()
    data = Path(os.environ.get("LUTHIER_DATA", ROOT.parent / "shared" / "data")) / "dialogsum"
    peers = Path(os.environ.get("LUTHIER_PEERS", Path(sys.prefix) / "peers"))
    with tempfile.TemporaryDirectory() as fresh:
        plan = Plan(
            work=(asked.work or Path(fresh)).absolute(),
            texts=data / f"dialogsum.{'dev' if asked.quick else 'train'}.jsonl",
            rows=data / "dialogsum.dev.jsonl",
            peers=peers.absolute(),
            rounds=2 if asked.quick else asked.rounds,
            counted=asked.counted,
        )
        sweeps = {"lengths": lengths, "widths": widths}
        if asked.what in sweeps:
            _check(plan, CELLS)
            what, figures = sweeps[asked.what](plan, asked.quick, say)
            return write(f"train-{asked.what}", what, figures, asked)
        cells = TOYS if asked.quick else CELLS
        chosen = [cell for cell in cells if not asked.only or any(text in cell.name for text in asked.only)]
        _check(plan, chosen)
        figures = table(chosen, plan, asked.quick)
    write("train", "Luthier beside TRL 1.16 on DialogSum: Llamas and a T5 with random weights", figures, asked)
    different = [row["cell"] for row in figures["cells"] if not row["losses"]["equal"]]
    for name in different:
        say(f"{name}: the losses differ")
    return 1 if different else 0


def _check(plan: Plan, cells: Sequence[Cell]) -> None:
    """Say at once what is not there."""
    if not cells:
        sys.exit(f"no such cell: there are {[cell.name for cell in CELLS]}")
    if not plan.rows.is_file():
        sys.exit(f"no {plan.rows}: LUTHIER_DATA names the folder that holds dialogsum/")
    if not all(cell.model.encoder_decoder for cell in cells) and not (plan.peers / "trl").is_dir():
        sys.exit(f"no TRL in {plan.peers}: `make bench-train` puts it there")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", default="table", choices=["table", "lengths", "widths"])
    parser.add_argument("--only", nargs="*", default=[], help="cells whose name holds one of these: '32k' 'T5, fp32'")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--counted", type=int, default=2, help="steps of each side in each round")
    parser.add_argument("--work", type=Path, help="a folder that stays; default: a temporary one")
    parser.add_argument("--out", type=Path, help="a folder for the figures; default: benchmarks/results")
    parser.add_argument("--quick", action="store_true", help="toy models, two rounds: does it run at all?")
    return parser.parse_args()


def table(cells: Sequence[Cell], plan: Plan, quick: bool) -> dict[str, Any]:
    """Every cell, one after another."""
    begun, rows, breakdowns = time.monotonic(), [], {}
    exact: dict[tuple[str, str], dict[str, list[float]]] = {}
    for cell in cells:
        bench = Bench(cell, plan)
        found = measure(bench, tune=not quick or not cell.model.encoder_decoder)
        kind = (cell.model.name, cell.method)
        if cell.precision == "fp32":
            exact[kind] = {name: side["losses"] for name, side in found["sides"].items()}
        elif kind not in exact:
            exact[kind] = reference(cell, plan)
        found |= {"ratios": ratios(found), "losses": losses(cell, found, exact[kind])}
        found["met"] = met(cell, found)
        found["target"] = {**asdict(cell.target), "mfu": cell.mfu} if cell.target else None
        rows.append(found)
        if cell not in TOYS[1:]:
            breakdowns[cell.name] = _child("benchmarks.train.breakdown", str(bench.run))
        say(f"{cell.name}: {_line(found)} ({(time.monotonic() - begun) / 60:.1f} minutes so far)")
    minutes = round((time.monotonic() - begun) / 60, 1)
    settings = {"rounds": plan.rounds, "counted": plan.counted, "minutes": minutes, "load": os.getloadavg()[2]}
    return {"settings": settings, "cells": rows, "breakdown": breakdowns}


def _line(found: dict[str, Any]) -> str:
    speeds = {name: round(side["tokens_per_second"]) for name, side in found["sides"].items()}
    said = {name: f"x{ratio['speed']:.2f}, memory /{ratio['memory']:.2f}" for name, ratio in found["ratios"].items()}
    return json.dumps({"tokens_per_second": speeds, "against": said, "losses": found["losses"]})


def _child(module: str, *arguments: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **environment()},
    )
    return json.loads(done.stdout)


def write(name: str, what: str, figures: dict[str, Any], asked: argparse.Namespace) -> int:
    """Write the figures, and the tables that are made of them; parts of a measurement go elsewhere or nowhere."""
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / f"{name}.json").write_text(json.dumps(figures, indent=1))
    elif asked.quick or asked.only:
        print(json.dumps(figures))
    else:
        record.write(name, what, figures)
        update(ROOT / "docs" / "performance.md", record.RESULTS)
    return 0


def say(text: str) -> None:
    """A line for who waits."""
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
