"""The quickstart as a whole process: time, memory, the table, the plan beside what happened."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from benchmarks.record import measured, write


def main() -> None:
    """Run it once in a fresh folder and write down what it says of itself and what the system saw."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "luthier", "quickstart", "--json", "--out", str(Path(folder) / "run")]
        printed, seconds, peak = measured(command)
    document = json.loads(printed)
    figures = {
        "wall_seconds": round(seconds, 1),
        "peak_rss_bytes": peak,
        "stage_seconds": {name: stage["seconds"] for name, stage in document["stages"].items()},
        "plan": document["plan"],
        "metrics": document["metrics"],
        "comparisons": document["comparisons"],
        "best": document["best"],
    }
    write("quickstart", "luthier quickstart in a fresh folder, as a whole process", figures)


if __name__ == "__main__":
    main()
