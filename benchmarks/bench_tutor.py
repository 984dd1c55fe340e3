"""The tutor as a whole process: who is good at what, what each forgot, time and memory.

`python -m benchmarks.bench_tutor [FOLDER]` leaves the run in the folder where one is named.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from benchmarks.record import whole_run, write

RECIPE = Path(__file__).parents[1] / "recipes" / "tutor.yaml"


def main() -> None:
    """Run it once in a fresh folder and write down what it says of itself and what the system saw."""
    with tempfile.TemporaryDirectory() as folder:
        out = sys.argv[1] if len(sys.argv) > 1 else str(Path(folder) / "run")
        figures = whole_run(["run", str(RECIPE), "--out", out])
    write("tutor", "luthier run recipes/tutor.yaml in a fresh folder, as a whole process", figures)


if __name__ == "__main__":
    main()
