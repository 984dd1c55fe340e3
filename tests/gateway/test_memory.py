"""Freed blocks go back to the system, whatever small ones lie beside them."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

# a large block freed first raises the threshold, unless it was fixed; then 60 of 1 MB between small ones that stay
PROGRAM = """
import ctypes, sys, psutil
if sys.argv[1] == "flat":
    from luthier.gateway.memory import keep_flat
    keep_flat()
c = ctypes.CDLL(None)
c.malloc.restype, c.malloc.argtypes, c.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
c.free(c.malloc(24 << 20))
before, large, small = psutil.Process().memory_info().rss, [], []
for _ in range(60):
    large.append(c.malloc(1 << 20))
    ctypes.memset(large[-1], 1, 1 << 20)
    small.append(c.malloc(64 << 10))
    ctypes.memset(small[-1], 1, 64 << 10)
for block in large:
    c.free(block)
print((psutil.Process().memory_info().rss - before) >> 20)
"""


def kept(how: str) -> int:
    """MiB that a process holds after it has freed 60."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc raises its threshold")
def test_what_is_freed_is_given_back():
    assert kept("flat") < 10 < 50 < kept("as it is")
