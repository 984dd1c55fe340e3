"""How many threads, and whose matrix products: chosen by measurement when a run starts on a CPU.

torch can multiply fp32 matrices by MKL or, where `float32_matmul_precision` is below `highest`, by oneDNN, which on
many processors is up to twice as fast and as exact. On a processor with tiles (AMX) oneDNN would round to bf16 then,
and it is left alone. A second thread helps wide models and costs narrow ones nothing but the neighbour's time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch

ROWS, WIDTH = 1024, 512
ROUNDS = 10
MARGIN = 1.1  # a change must be so much faster: near a tie, every run is to choose the same
EXACT = 1e-5  # largest error of a product, relative to its own size


@dataclass(frozen=True)
class Backend:
    """What was chosen: `threads`, and torch's name of the precision that stands for a library."""

    threads: int
    matmul: str

    def use(self) -> None:
        """Compute with it from now on."""
        torch.set_num_threads(self.threads)
        torch.set_float32_matmul_precision(self.matmul)


@contextmanager
def tuned(device: torch.device) -> Iterator[None]:
    """Compute by the fastest backend within the block, where the device is a CPU."""
    before = current()
    if device.type == "cpu":
        fastest().use()
    try:
        yield
    finally:
        before.use()


def current() -> Backend:
    """What torch computes with now."""
    return Backend(torch.get_num_threads(), torch.get_float32_matmul_precision())


@cache
def fastest() -> Backend:
    """The fastest of what this processor offers, measured once in a process; what the user has set is kept."""
    before = current()
    try:
        best = before
        single = Backend(1, before.matmul)
        if "OMP_NUM_THREADS" not in os.environ and _faster(single, best):
            best = single
        other = Backend(best.threads, "medium")
        if before.matmul == "highest" and not _rounds() and _faster(other, best) and _exact(other):
            best = other
        return best
    finally:
        before.use()


def exact(matmul: str) -> bool:
    """Whether products of fp32 by this name are true to fp32 on this processor."""
    before = current()
    try:
        return matmul == "highest" or (not _rounds() and _exact(Backend(before.threads, matmul)))
    finally:
        before.use()


def _faster(one: Backend, other: Backend) -> bool:
    """Whether one is clearly faster: the best of products in turn, so that a slow moment of the machine hits both."""
    if one == other:
        return False
    seconds = [(_seconds(one), _seconds(other)) for _ in range(ROUNDS)]
    return min(a for a, _ in seconds) * MARGIN < min(b for _, b in seconds)


def _rounds() -> bool:
    """Whether oneDNN would round fp32 to bf16 on this processor."""
    return torch.cpu._is_amx_tile_supported()


def _matrices() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(ROWS, WIDTH, generator=generator), torch.randn(WIDTH, WIDTH, generator=generator)


def _seconds(backend: Backend) -> float:
    """The time of a product after one to warm up."""
    backend.use()
    a, b = _matrices()
    a @ b
    start = time.perf_counter()
    a @ b
    return time.perf_counter() - start


def _exact(backend: Backend) -> bool:
    backend.use()
    a, b = _matrices()
    right = a.double() @ b.double()
    return bool((a @ b - right).norm() <= EXACT * right.norm())
