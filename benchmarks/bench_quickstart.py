"""The quickstart as a whole process: time, memory, the table, the plan beside what happened."""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.record import whole_run, write


def main() -> None:
    """Run it once in a fresh folder and write down what it says of itself and what the system saw."""
    with tempfile.TemporaryDirectory() as folder:
        figures = whole_run(["quickstart", "--out", str(Path(folder) / "run")])
    write("quickstart", "luthier quickstart in a fresh folder, as a whole process", figures)


if __name__ == "__main__":
    main()
