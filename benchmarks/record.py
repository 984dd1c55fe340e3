"""What every measurement writes down beside its figures."""

from __future__ import annotations

import json
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


def whole_run(arguments: list[str]) -> dict[str, Any]:
    """What a run, as a process of its own, says of itself, and what the system saw."""
    printed, seconds, peak = measured([sys.executable, "-m", "luthier", *arguments, "--json"])
    document = json.loads(printed)
    return {
        "wall_seconds": round(seconds, 1),
        "peak_rss_bytes": peak,
        "stage_seconds": {name: stage["seconds"] for name, stage in document["stages"].items()},
        **{name: document[name] for name in ("plan", "metrics", "comparisons", "best") if document[name]},
        **{name: document[name] for name in ("by_source", "forgetting") if document[name]},
    }


def measured(command: list[str]) -> tuple[str, float, int]:
    """Standard output, wall seconds and peak resident bytes of the largest process of a command that must succeed."""
    start = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    seconds = time.monotonic() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return done.stdout, seconds, peak
