"""What keeps the memory of a process flat that computes with tensors of ever other sizes for days."""

from __future__ import annotations

import ctypes
from contextlib import suppress

LARGE = 1 << 18  # bytes of a block from which it is given back to the system as soon as it is freed
MMAP_THRESHOLD = -3  # glibc's M_MMAP_THRESHOLD


def keep_flat() -> None:
    """Call it before torch is imported; where the C library is not glibc, nothing is done.

    Left to itself, glibc raises the threshold to the largest block it has seen freed; the caches of batches then lie
    among small blocks, and what is free between them serves nobody.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, LARGE)
