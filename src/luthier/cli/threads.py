"""How the threads of a matrix product wait for the next one; it must be said before torch is imported.

Threads that sleep at once leave a busy machine to others, and are woken some 40 microseconds late for every product;
those that look out for work first, as OpenMP's do for milliseconds, stand in the way of everybody else, and of each
other. Here they look out for about 40 microseconds where the machine was idle when the command began, else never.
"""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from pathlib import Path

SPINS = 2000  # rounds of some 20 nanoseconds
LOOKS, PAUSE = 5, 0.002  # how often, and seconds between: a moment's work of another process is no load
PROCESSES = Path("/proc/stat")


def say_how_to_wait(environment: MutableMapping[str, str], processes: Path = PROCESSES) -> None:
    """Set the policy of OpenMP for this process and those it starts, unless the user has."""
    if "OMP_WAIT_POLICY" in environment:
        return
    environment["OMP_WAIT_POLICY"] = "PASSIVE"
    if "GOMP_SPINCOUNT" not in environment:
        environment["GOMP_SPINCOUNT"] = str(SPINS if _idle(processes) else 0)


def _idle(processes: Path) -> bool:
    """Whether this process is the only one that runs, as far as the system tells."""
    running = []
    for look in range(LOOKS):
        time.sleep(PAUSE if look else 0)
        try:
            counts = dict(line.split(maxsplit=1) for line in processes.read_text().splitlines())
            running.append(int(counts["procs_running"]))
        except (OSError, KeyError, ValueError):
            return False
    return min(running) <= 1
