"""Liger's kernels compute what the blocks without them do: on a GPU, or on a CPU by Triton's interpreter.

`TRITON_INTERPRET=1 pytest tests/engine/accelerated/test_liger.py`, with `pip install "luthier[liger]"`.
"""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest
import torch

from luthier.engine.accelerated import accelerate, liger
from tests.engine.accelerated.test_families import assert_the_same, measured, prepared

THERE = find_spec("liger_kernel") is not None and find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
CUDA = torch.cuda.is_available()
runs = pytest.mark.skipif(
    not (THERE and (CUDA or INTERPRETED)),
    reason="Liger's kernels need CUDA, or TRITON_INTERPRET=1, and luthier[liger]",
)


@pytest.fixture
def kernels(monkeypatch):
    """The kernels where the interpreter must run them: it knows no plain numbers with a type, and no CUDA library."""
    monkeypatch.setattr(liger, "lacking", lambda device: None)
    if CUDA:
        return
    import liger_kernel.ops.geglu
    import liger_kernel.ops.rms_norm
    import numpy as np
    import triton.language as tl
    from triton.runtime import interpreter

    typed = interpreter._implicit_cvt

    def also_floats(argument):
        if not isinstance(argument, float):
            return typed(argument)
        return tl.tensor(interpreter.TensorHandle(np.array([argument], dtype=np.float32), tl.float32), tl.float32)

    monkeypatch.setattr(interpreter, "_implicit_cvt", also_floats)
    monkeypatch.setattr(liger_kernel.ops.rms_norm, "rsqrt", lambda x: tl.rsqrt(x))
    monkeypatch.setattr(liger_kernel.ops.geglu, "tanh", lambda x: 2 * tl.sigmoid(2 * x) - 1)


@runs
@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma", "phi3"])
def test_loss_and_gradients_are_those_of_the_own_blocks(kernels, family, method):
    model, trainable = prepared(family, method)
    expected = measured(model, trainable)
    found = accelerate(model, packs=True)
    assert "Liger's kernels compute them" in found.why
    assert {"LigerNorm", "LigerAttention"} <= set(found.blocks) or family == "phi3"
    assert ("LigerMlp" in found.blocks) == (family != "phi3")
    assert_the_same(measured(model, trainable), expected)


@runs
def test_kernels_that_compute_something_else_are_taken_out_and_the_blocks_stay(kernels, monkeypatch):
    model, trainable = prepared("llama", "full")
    expected, _ = measured(model, trainable)
    right = liger.LigerNorm.forward
    monkeypatch.setattr(liger.LigerNorm, "forward", lambda self, x: 1.01 * right(self, x))
    found = accelerate(model, packs=True)
    assert "Liger's kernels do not fit: loss or gradients differ" in found.why
    assert found.path == "accelerated" and {name[:4] for name in found.blocks} == {"Fast"}
    assert measured(model, trainable)[0] == pytest.approx(expected, rel=1e-5)


def test_a_cpu_says_nothing_of_liger_and_a_gpu_how_to_get_it():
    assert liger.lacking(torch.device("cpu")) == ""
    problem = liger.lacking(torch.device("cuda"))
    assert problem is None if THERE else 'pip install "luthier[liger]"' in str(problem)


@runs
@pytest.mark.parametrize("family", ["llama", "gemma"])
def test_in_half_precision_they_lie_as_near_to_fp32_as_the_own_blocks(kernels, family):
    half = "bf16" if CUDA else "fp16"  # which the interpreter knows
    model, trainable = prepared(family, "lora")
    exact, _ = measured(model, trainable)
    own, expected = measured(model, trainable, half)
    accelerate(model, packs=True)
    found, gradients = measured(model, trainable, half)
    assert found != exact and abs(found - exact) <= max(2 * abs(own - exact), 1e-3 * exact)
    whole = torch.stack([g.norm() for g in expected.values()]).norm()
    apart = torch.stack([(gradients[name] - value).norm() for name, value in expected.items()]).norm()
    assert apart <= 0.03 * whole
