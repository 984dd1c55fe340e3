"""Layers compiled by torch (`train.compile: auto`), where a training is long enough to pay for it.

Each layer keeps its place, its parameters and its name; only its class changes, to one whose `forward` is compiled,
once for all layers of a class and for any number of tokens. Attention within packed rows stays outside of what is
compiled. Passes without gradients, as in validation and generation, run the family's own code.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from luthier.engine.job import Job, draw
from luthier.engine.memory import ran_out
from luthier.engine.step import step_loss
from luthier.models.stack import decoder_layers
from luthier.objectives.contract import Batch

PAYS = 600.0  # seconds of training ahead from which it may pay: compiling takes about 30 and gains about 5 %
ROUNDS = 3
MARGIN = 0.98  # of the time without it that a step may take
TOLERANCE = {"fp32": 1e-5}  # relative difference of the losses
ROUGHLY = 1e-2  # that in half precision, where a compiled layer rounds less often


@dataclass(frozen=True)
class Compilation:
    """Whether the layers are compiled, how many of them, and why."""

    layers: int
    why: str

    @property
    def words(self) -> str:
        """The decision in a sentence."""
        return f"{f'{self.layers} layers compiled' if self.layers else 'not compiled'}: {self.why}"


def expected(job: Job, seconds: float) -> Compilation:
    """What will be decided about a training that takes so many seconds; nothing is compiled."""
    problem = refused(job) or _too_short(seconds)
    if problem:
        return Compilation(0, problem)
    return Compilation(len(_layers(job)), "if a first step is faster so, and its loss the same")


def settled(job: Job, step: int, micro_tokens: int) -> Compilation:
    """Compile the layers, from this step of the training on, where it pays: found out by a step before and after.

    No weight changes, no random number is drawn.
    """
    if problem := refused(job):
        return Compilation(0, problem)
    batch = draw(job, step, micro_tokens)[0]
    try:
        loss, seconds = _tried(job, batch)
        if problem := _too_short(seconds / max(batch.tokens, 1) * float(job.steps.tokens[step:].sum())):
            return Compilation(0, problem)
    except RuntimeError as error:
        if not ran_out(error):
            raise
        return Compilation(0, "memory did not suffice to try a step")
    return _compared(job, batch, loss, seconds)


def refused(job: Job) -> str | None:
    """Why the layers of this job cannot be compiled, or need not be; None where they can."""
    if job.acceleration.blocks:
        return "it has accelerated blocks, which are left as they are"
    if not job.rule.backward:
        return f"{job.settings.optimizer.name} needs no backward pass"
    if job.several:
        return "several processes train together"
    if job.base.encoder_decoder or not _layers(job):
        return f"a {job.base.family} has no one stack of layers"
    return _no_compiler(job.computation.device.type)


def compile_layers(job: Job) -> list[nn.Module]:
    """Give the job's layers their compiled form; the layers."""
    made: dict[type, type] = {}
    layers = _layers(job)
    for layer in layers:
        own = type(layer)
        made[own] = made.get(own) or _compiled_form(own)
        layer.__class__ = made[own]
    return layers


def _compared(job: Job, batch: Batch, loss: float, seconds: float) -> Compilation:
    """The layers compiled, unless a step then gives another loss than before, or takes as long."""
    layers: list[nn.Module] = []
    try:
        layers = compile_layers(job)
        found, after = _tried(job, batch)
        tolerance = TOLERANCE.get(job.computation.precision, ROUGHLY)
        problem = None
        if not abs(found - loss) <= tolerance * abs(loss):
            problem = f"the loss was {loss:.6g} and is {found:.6g}"
        elif after > MARGIN * seconds:
            problem = f"a step takes {after:.3g} seconds compiled, and {seconds:.3g} as it is"
    except Exception as error:  # of the compiler, a C++ one, a full disk: none of them need end the training
        said = (str(error).splitlines() or [type(error).__name__])[0]
        problem = f"torch cannot compile a {job.base.family} here ({said})"
    if problem:
        turn_back(layers)
        return Compilation(0, problem)
    return Compilation(len(layers), f"a step takes {after:.3g} seconds instead of {seconds:.3g}")


def turn_back(layers: Sequence[nn.Module]) -> None:
    """Give compiled layers their own class again."""
    for layer in layers:
        layer.__class__ = type(layer).__base__  # pyright: ignore[reportAttributeAccessIssue]


def _tried(job: Job, batch: Batch) -> tuple[float, float]:
    """The loss of a batch, its backward pass made as well and forgotten, and the least seconds that it takes."""
    computation = job.computation
    computation.trainable.model.train()
    loss, taken = 0.0, []
    try:
        with torch.random.fork_rng(range(torch.cuda.device_count())):
            for _ in range(1 + ROUNDS):
                torch.manual_seed(0)
                start = time.perf_counter()
                loss = step_loss(computation, [batch])  # whose number is read, so that a GPU has come that far
                taken.append(time.perf_counter() - start)
                job.optimizer.zero_grad(set_to_none=True)
    finally:
        job.optimizer.zero_grad(set_to_none=True)  # also of a step that failed on its way back
    return loss, min(taken[1:])


def _layers(job: Job) -> list[nn.Module]:
    found = decoder_layers(job.base.model)
    return [] if found is None else list(found[1])


def _compiled_form(own: Any) -> type:
    # `fallback_random`: dropout draws what it draws without the compiler
    compiled: Callable[..., Any] = torch.compile(own.forward, dynamic=True, options={"fallback_random": True})

    def forward(self: nn.Module, *args: Any, **options: Any) -> Any:
        return (compiled if torch.is_grad_enabled() else own.forward)(self, *args, **options)

    return type(own.__name__, (own,), {"forward": forward})


def _too_short(seconds: float) -> str | None:
    if seconds >= PAYS:
        return None
    return f"about {seconds:.0f} seconds of training do not pay for it, {PAYS:.0f} may"


def _no_compiler(device: str) -> str | None:
    """Why torch could not compile for this kind of device; None where it can be tried."""
    if device == "cpu":
        compiler = os.environ.get("CXX", "g++")
        return None if shutil.which(compiler) else f"there is no C++ compiler ({compiler}): install one, or set CXX"
    if device == "cuda":
        return None if find_spec("triton") else "triton is not installed, which compiles for a GPU"
    return f"torch does not compile for {device}"
