"""AdamW through bitsandbytes: close to AdamW in a quarter of its memory, and kept whole by a checkpoint.

What needs the library is skipped without it; that it is asked for, and where it does not serve, is not.
"""

from __future__ import annotations

import importlib.util

import pytest
import torch
from safetensors.torch import load, save
from torch import nn

from luthier.core.errors import UserError
from luthier.engine.optimizers import OPTIMIZERS, quantised
from luthier.engine.optimizers.contract import Weight
from luthier.engine.step import set_learning_rate
from tests.engine.test_optimizers import made

installed = pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="needs bitsandbytes")
SHAPES = {"large": (96, 64), "small": (8, 8)}  # 6,144 numbers, of 8 bits, and 64, of 32


def walk(optimizer, parameters, steps, seed=0):
    """Some steps by gradients of the seed."""
    generator = torch.Generator().manual_seed(seed)
    set_learning_rate(optimizer, 1e-2)
    for _ in range(steps):
        for parameter in parameters:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


def start():
    return {name: torch.randn(shape, generator=torch.Generator().manual_seed(9)) for name, shape in SHAPES.items()}


@installed
def test_its_steps_are_those_of_adamw_within_a_few_percent():
    """Moments of 8 bits are off by a few percent each; over 10 steps of random gradients these average out."""
    ours, parameters = made("adamw-8bit", start(), weight_decay=0.1)
    plain, others = made("adamw", start(), weight_decay=0.1)
    walk(ours, parameters, 10)
    walk(plain, others, 10)
    for value, other, before in zip(parameters, others, start().values(), strict=True):
        assert (value - other).norm() < 0.05 * (other - before).norm()
    torch.testing.assert_close(parameters[1], others[1], rtol=1e-4, atol=1e-5)
    assert not torch.equal(parameters[0], others[0]), "the large one is in 8 bits"


@installed
def test_the_table_tells_what_it_holds():
    optimizer, parameters = made("adamw-8bit", start())
    walk(optimizer, parameters, 1)
    weights = [Weight(name, p) for name, p in zip(SHAPES, parameters, strict=True)]
    held = sum(tensor.nbytes for p in parameters for tensor in optimizer.state[p].values())
    counters = sum(optimizer.state[p]["step"].nbytes for p in parameters)
    entry = OPTIMIZERS["adamw-8bit"]
    assert held - counters == entry.state(weights, entry.config()) == 2 * 6144 + 8 * 24 + 8 * 64


@installed
def test_from_a_checkpoint_it_goes_on_to_the_same_bits():
    optimizer, parameters = made("adamw-8bit", start())
    walk(optimizer, parameters, 3)
    names = {name: p for name, p in zip(SHAPES, parameters, strict=True)}
    kept = load(save({f"{n}/{what}": t for n, p in names.items() for what, t in optimizer.state[p].items()}))
    again, copies = made("adamw-8bit", {name: p.detach().clone() for name, p in names.items()})
    for name, copy in zip(SHAPES, copies, strict=True):
        again.state[copy] |= {key.split("/")[1]: t for key, t in kept.items() if key.startswith(f"{name}/")}
    walk(optimizer, parameters, 3, seed=1)
    walk(again, copies, 3, seed=1)
    assert all(torch.equal(one, other) for one, other in zip(parameters, copies, strict=True))


def test_pages_are_for_a_gpu_whose_memory_may_run_out():
    with pytest.raises(UserError, match=r"adamw-paged runs on cuda, and this is cpu: write adamw, which is the same"):
        made("adamw-paged", start())


def test_another_device_is_refused():
    entry = OPTIMIZERS["adamw-8bit"]
    elsewhere = [Weight("w", nn.Parameter(torch.empty(3, 3, device="meta")))]
    with pytest.raises(UserError, match=r"adamw-8bit runs on cpu and cuda, and this is meta: write adamw"):
        entry.build(elsewhere, entry.config(), 0)


def test_without_the_library_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setattr(quantised, "LIBRARY", "bits_and_pieces")
    with pytest.raises(
        UserError, match=r'need the library bits_and_pieces: pip install "luthier\[bits_and_pieces\]"'
    ):
        made("adamw-8bit", start())
