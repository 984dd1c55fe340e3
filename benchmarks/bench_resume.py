"""Kill a run at 20 random instants, resume each, and count how many end in the same bits.

Usage: python -m benchmarks.bench_resume [COUNT] [SEED]; writes benchmarks/results/resume.json
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.record import write
from tests.faults import kill


def main(count: int = 20, seed: int = 0) -> None:
    """Run, kill, resume, compare, record."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = kill.write_recipe(folder)
        start = time.monotonic()
        kill.finish(recipe, folder / "whole")
        seconds = time.monotonic() - start
        expected = kill.outcome(folder / "whole")
        last = max(int(p.name) for p in folder.glob("whole/4-train/*/checkpoints/[0-9]*"))
        rows = []
        for number, (instant, when) in enumerate(kill.instants(count, seconds * 0.9, last, seed)):
            out = folder / f"killed-{number}"
            killed = kill.run_and_kill(recipe, out, when)
            kill.finish(recipe, out)
            actual = kill.outcome(out)
            different = [key for key in expected if actual.get(key) != expected[key]]
            rows.append({"instant": instant, "killed": killed, "identical": not different, "different": different})
            print(rows[-1], file=sys.stderr)
    result = {
        "kills": sum(row["killed"] for row in rows),
        "identical": sum(row["identical"] for row in rows),
        "uninterrupted_seconds": round(seconds, 1),
        "threads": torch.get_num_threads(),
        "rows": rows,
    }
    what = "SIGKILL at random instants, then resume: weights, optimiser, generators, data order, losses"
    write("resume", what, result)
    print(f"{result['identical']} of {len(rows)} identical ({result['kills']} killed before the end)")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
