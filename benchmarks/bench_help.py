"""How long `luthier --help` takes, as a whole process."""

from __future__ import annotations

import statistics
import sys

from benchmarks.record import measured, write

RUNS = 11


def main() -> None:
    """The median of eleven runs after one that warms the disk cache."""
    command = [sys.executable, "-m", "luthier", "--help"]
    measured(command)
    seconds = [measured(command)[1] for _ in range(RUNS)]
    figures = {
        "median_seconds": round(statistics.median(seconds), 3),
        "slowest_seconds": round(max(seconds), 3),
        "runs": RUNS,
    }
    write("help", "wall seconds of `luthier --help`", figures)


if __name__ == "__main__":
    main()
