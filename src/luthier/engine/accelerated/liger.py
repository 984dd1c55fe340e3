"""Liger's Triton kernels (Hsu et al. 2024) inside of accelerated blocks, on a GPU of CUDA where they are installed.

Of norms, gated MLPs and rotary positions they compute in one pass over the memory what torch needs several for. The
blocks stay what they are: boundaries, LoRA, labelled positions. Liger's fused loss is not used: ours reads labelled
positions only, in chunks.

Shapes: T tokens, D width, H heads (K for keys).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from luthier.engine.accelerated.layers import FastMlp, FastNorm, projections
from luthier.engine.accelerated.linear import project
from luthier.engine.accelerated.llama import FastAttention
from luthier.models.arithmetic import explicit, working_dtype

SILU = ("SiLU", "SiLUActivation")
GELU_TANH = ("GELUTanh", "PytorchGELUTanh", "NewGELUActivation")  # Liger has no other GELU


def lacking(device: torch.device) -> str | None:
    """Why blocks on this device go without Liger's kernels; None where they can have them, empty off CUDA."""
    if device.type != "cuda":
        return ""
    there = find_spec("liger_kernel") and find_spec("triton")
    return None if there else 'Liger\'s kernels are not installed: pip install "luthier[liger]"'


def put_in(blocks: Sequence[nn.Module]) -> list[nn.Module]:
    """Let accelerated blocks compute by Liger's kernels, where there is one; the blocks that do."""
    changed: list[Any] = []
    for block in blocks:
        kernel = next((kernel for fast, kernel in KERNELS if isinstance(block, fast)), None)
        if kernel is not None and (kernel is not LigerMlp or _product(block)):
            changed.append(block)
            fast = type(block)
            changed[-1].__class__ = type(kernel.__name__, (kernel, fast), {"luthier_fast": fast})
    return changed


def take_out(blocks: Sequence[nn.Module]) -> None:
    """Let blocks compute without Liger's kernels again."""
    for block in blocks:
        block.__class__ = type(block).luthier_fast  # pyright: ignore[reportAttributeAccessIssue]


class LigerNorm:
    """A root-mean-square norm, in fp32 within."""

    def forward(self: Any, hidden_states: Tensor) -> Tensor:
        """(..., D) -> (..., D) in the working type."""
        eps = self.variance_epsilon if hasattr(self, "variance_epsilon") else self.eps
        settings = eps, self.luthier_offset, "gemma", False  # all in fp32; the gradient it is given stays as it is
        normed: Tensor = explicit(_kernels().LigerRMSNormFunction, hidden_states, self.weight, *settings)
        return normed.to(working_dtype(hidden_states))


class LigerMlp:
    """A gated MLP."""

    def forward(self: Any, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        parts = projections(self, "gate_proj", "up_proj", "down_proj")
        if parts is None:
            return super().forward(x)  # pyright: ignore[reportAttributeAccessIssue]
        gates, ups = project(x, parts[:2])
        return project(explicit(getattr(_kernels(), _product(self)), gates, ups), parts[2:])[0]


class LigerAttention:
    """Rotary attention."""

    def turned(self, query: Tensor, at: Sequence[Tensor], key: Tensor, there: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Queries (T, H, D) and keys (T, K, D) by the angles of their positions (T, D).

        Queries of some rows, and heads of which a part is turned, go without the kernel, which asks for whole ones.
        """
        if at[0] is not there[0] or there[0].shape[-1] != query.shape[-1]:
            return super().turned(query, at, key, there)  # pyright: ignore[reportAttributeAccessIssue]
        states = (part.transpose(0, 1)[None] for part in (query, key))
        both = explicit(_kernels().LigerRopeFunction, *states, *(part[None] for part in there))
        return tuple(part[0].transpose(0, 1) for part in both)


KERNELS = (
    (FastNorm, LigerNorm),
    (FastMlp, LigerMlp),
    (FastAttention, LigerAttention),
)


def _product(mlp: Any) -> str:
    """The kernel for act(gates) ups with the activation of an MLP; empty where there is none."""
    name = type(mlp.act_fn).__name__
    return "LigerSiLUMulFunction" if name in SILU else "LigerGELUMulFunction" if name in GELU_TANH else ""


@cache
def _kernels() -> Any:
    return import_module("liger_kernel.ops")
