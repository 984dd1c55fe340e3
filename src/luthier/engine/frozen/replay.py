"""Taking the states that a frozen part gives, and giving them in its place.

The model's own code runs as ever, around modules that answer at once: masks, positions and packed boundaries are
made for all layers alike, and what stands above the part cannot tell. Shapes: B rows, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

from torch import Tensor
from transformers.utils.generic import ModelOutput

from luthier.engine.frozen.part import Part
from luthier.objectives.contract import Batch

Around = Callable[[Batch], AbstractContextManager[None]]  # what the forward pass of a batch runs in


def computed(batch: Batch) -> AbstractContextManager[None]:
    """The forward pass as it is, nothing kept and nothing replayed."""
    return nullcontext()


def states_of(output: Any) -> Tensor:
    """The states (B, T, D) among what a module gives: itself, or the first of several."""
    return output if isinstance(output, Tensor) else output[0]


def in_form_of(output: Any, states: Tensor) -> Any:
    """What the module would give with these states, and without the rest."""
    if isinstance(output, Tensor):
        return states
    if isinstance(output, ModelOutput):
        return type(output)(last_hidden_state=states)  # pyright: ignore[reportCallIssue]
    return (states, *[None] * (len(output) - 1))


@contextmanager
def taken(part: Part) -> Iterator[list[Any]]:
    """Collects what the part gives within the block."""
    outputs: list[Any] = []
    handle = part.modules[-1].register_forward_hook(lambda module, args, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()


@contextmanager
def given(part: Part, output: Any) -> Iterator[None]:
    """Within the block every module of the part gives `output` without computing anything."""

    def at_once(*args: Any, **options: Any) -> Any:
        return output

    for module in part.modules:
        module.forward = at_once
    try:
        yield
    finally:
        for module in part.modules:
            del module.forward  # its class's own is back
