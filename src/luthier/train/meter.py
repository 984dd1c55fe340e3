"""What the machine does during one step: how fast it is, how long it waits, how busy it is."""

from __future__ import annotations

import os
import time
from functools import cache

import torch


@cache
def cores() -> int:
    """The processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Meter:
    """Measures from its making on."""

    def __init__(self, device: torch.device, waited: float) -> None:
        """`waited` are the seconds that the training has waited for data until now."""
        self._device, self._waited = device, waited
        self._start, self._worked = time.perf_counter(), time.process_time()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._start

    def figures(self, tokens: int, waited: float) -> dict[str, float]:
        """Tokens per second; shares of the time: waiting for data, all cores at work for this process, GPU busy.

        `gpu` is there where NVIDIA's driver can be asked for it.
        """
        seconds = max(self.seconds, 1e-9)
        found = {
            "tokens_per_second": round(tokens / seconds, 1),
            "waiting": round((waited - self._waited) / seconds, 4),
            "cpu": round((time.process_time() - self._worked) / seconds / cores(), 4),
        }
        busy = gpu_share() if self._device.type == "cuda" else None
        return found if busy is None else {**found, "gpu": busy}


def gpu_share() -> float | None:
    """Share of the last moments in which the GPU had work; None where nobody says (`pip install nvidia-ml-py`)."""
    return torch.cuda.utilization() / 100 if _can_be_asked() else None


@cache
def _can_be_asked() -> bool:
    try:
        torch.cuda.utilization()
    except (ImportError, RuntimeError, AssertionError):  # no library, no driver, no CUDA
        return False
    return True
