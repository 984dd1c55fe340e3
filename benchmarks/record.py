"""What every measurement writes down beside its figures."""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from luthier.core.artefacts import versions
from luthier.core.files import write_json

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """Cores, memory, processor architecture, Python."""
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "architecture": platform.machine(),
        "python": platform.python_version(),
    }


def write(name: str, what: str, figures: dict[str, Any]) -> None:
    """Write `results/<name>.json` and print where it lies."""
    body = {"what": what, "day": time.strftime("%Y-%m-%d"), "machine": machine(), "versions": versions(), **figures}
    write_json(RESULTS / f"{name}.json", body)
    print(RESULTS / f"{name}.json")


def measured(command: list[str]) -> tuple[str, float, int]:
    """Standard output, wall seconds and peak resident bytes of the largest process of a command that must succeed."""
    start = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return done.stdout, seconds, peak
