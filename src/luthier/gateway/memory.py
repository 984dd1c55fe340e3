"""What keeps the memory of a process flat that computes with tensors of ever other sizes for days."""

from __future__ import annotations

import ctypes
import os
from contextlib import suppress

KERNELS = "32"  # of oneDNN that are kept, one for each shape that it met; its default of 1,024 takes 100 MB and more
LARGE = 1 << 18  # bytes of a block from which it is given back to the system as soon as it is freed
MMAP_THRESHOLD = -3  # glibc's M_MMAP_THRESHOLD


def keep_flat() -> None:
    """Call it before torch is imported. Where the C library is not glibc, only oneDNN is told.

    Left to itself, glibc raises the threshold to the largest block it has seen freed; the caches of batches then lie
    among small blocks, and what is free between them serves nobody.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", KERNELS)
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, LARGE)
