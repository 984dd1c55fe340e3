"""Where and in which arithmetic the work is done."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def pick_device() -> torch.device:
    """The accelerator if there is one, else the CPU, which takes numbers too small to be normal for zero from now on.

    The softmax of an untrained model is full of such numbers, and a CPU needs a hundred cycles for each.
    """
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    torch.set_flush_denormal(True)
    return torch.device("cpu")


def resolve_precision(precision: str, device: torch.device) -> str:
    """`fp32` or `bf16`; `auto` is bf16 on a GPU that has it and fp32 elsewhere."""
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"


def arithmetic(precision: str, device: torch.device) -> AbstractContextManager:
    """The context in which a forward pass runs; weights stay in fp32 either way."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
