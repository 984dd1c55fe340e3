"""The rate at which this machine multiplies matrices, measured again and again beside the training.

`python -m benchmarks.train.roofline PRECISION JOURNAL` goes on until it is stopped, and writes a line each time.
"""

from __future__ import annotations

import json
import sys
import time

import torch

ROWS, WIDTH = 2048, 1024
SECONDS = 0.25  # for which each way is tried
WAYS = {"fp32": [("highest", torch.float32), ("medium", torch.float32)], "bf16": [("highest", torch.bfloat16)]}


def main(precision: str, journal: str) -> None:
    """Write the operations of the fastest product (ROWS, WIDTH) x (WIDTH, WIDTH) by any library, and its seconds."""
    number = 0
    while True:
        number += 1
        seconds = min(fastest(*way) for way in WAYS[precision])
        line = {"step": number, "seconds": seconds, "tokens": 2 * ROWS * WIDTH * WIDTH, "loss": 0.0}
        with open(journal, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def fastest(precision: str, dtype: torch.dtype) -> float:
    """Seconds of the fastest of many products: in fp32 by MKL (`highest`) or oneDNN (`medium`)."""
    torch.set_float32_matmul_precision(precision)
    a, b = torch.randn(ROWS, WIDTH).to(dtype), torch.randn(WIDTH, WIDTH).to(dtype)
    best, end = float("inf"), time.perf_counter() + SECONDS
    while time.perf_counter() < end:
        start = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - start)
    return best


if __name__ == "__main__":
    main(*sys.argv[1:])
