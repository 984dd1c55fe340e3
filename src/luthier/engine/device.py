"""Where and in which arithmetic the work is done."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

from luthier.core.errors import UserError

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(asked: str = "auto") -> torch.device:
    """The device of this kind; `auto` is the accelerator if there is one, else the CPU.

    The CPU takes numbers too small to be normal for zero from now on: the softmax of an untrained model is full of
    such numbers, and a CPU needs a hundred cycles for each. Raises UserError where the device is not there.
    """
    if problem := no_device(asked):
        raise UserError(f"train.device: {problem}")
    kind = asked if asked != "auto" else next(kind for kind in ("cuda", "mps", "cpu") if no_device(kind) is None)
    if kind == "cpu":
        torch.set_flush_denormal(True)
    return torch.device(kind)


def no_device(asked: str) -> str | None:
    """Why this machine has no device of that kind; None where it has."""
    if asked == "cuda" and not torch.cuda.is_available():
        why = "no GPU that torch can use" if torch.version.cuda or torch.version.hip else "a torch built without CUDA"
        return f"cuda is asked for and this machine has {why}: write auto or cpu, or install torch for your GPU"
    if asked == "mps" and not torch.backends.mps.is_available():
        return "mps is the GPU of an Apple computer, and there is none here: write auto or cpu"
    return None


def resolve_precision(precision: str, device: torch.device) -> str:
    """`fp32`, `bf16` or `fp16`; `auto` is bf16 on a GPU that has it and fp32 elsewhere.

    Raises UserError where the device cannot do it at a sensible speed.
    """
    if problem := no_precision(precision, device.type):
        raise UserError(f"train.precision: {problem}")
    if precision != "auto":
        return precision
    return "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def no_precision(precision: str, device: str) -> str | None:
    """Why this precision is not for that kind of device; None where it is.

    Without units for it a CPU multiplies matrices in fp16 a hundred times slower than in fp32.
    """
    on_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available() and no_device("mps"))
    if precision == "fp16" and on_cpu and not torch.ops.mkldnn._is_mkldnn_fp16_supported():
        return "this processor has no units for fp16, a hundred times slower than fp32: write bf16 or fp32"
    return None


def arithmetic(precision: str, device: torch.device) -> AbstractContextManager:
    """The context in which a forward pass runs; weights that train stay in fp32 in all of them."""
    return torch.autocast(device.type, DTYPES[precision]) if precision in DTYPES else nullcontext()
