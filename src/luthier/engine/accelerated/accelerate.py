"""Whether a model's accelerated blocks compute the same as its own: found out when a job is built, by a test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from luthier.engine.accelerated import liger
from luthier.engine.accelerated.swap import kind, swap_in, turn_back
from luthier.models.attention import Boundaries, packed, watched
from luthier.models.packing import LENGTHS, packed_inputs, short_sequences

SAMPLE = 4096  # numbers of each gradient that are compared
Measured = tuple[list[Tensor], list[int | None]]  # loss and gradients; the window of every attention
TOLERANCE = 1e-4  # largest relative difference of loss and gradients in fp32


@dataclass(frozen=True)
class Acceleration:
    """Which path a model takes, and why: `blocks` counts the accelerated ones by kind, none on the general path."""

    blocks: dict[str, int]
    why: str

    @property
    def path(self) -> str:
        """`accelerated` or `general`."""
        return "accelerated" if self.blocks else "general"


def accelerate(model: PreTrainedModel, packs: bool) -> Acceleration:
    """Give a model, made ready for training, its accelerated blocks, unless they change what it computes.

    `packs`: whether the model is given rows without padding, as the blocks expect. The model must be in fp32.
    """
    family = model.config.model_type
    if not packs:
        return Acceleration({}, f"a {family} is given padded rows: its attention knows no boundaries")
    training = model.training
    model.eval()
    expected = _measured(model)
    changed = swap_in(model)
    problem = _problem(model, expected)
    for module in changed if problem else ():
        turn_back(module)
    kernels = "" if problem or not changed else _with_liger(model, expected, changed)
    model.train(training)
    if problem:
        return Acceleration({}, f"accelerated blocks do not fit a {family}: {problem}")
    if not changed:
        return Acceleration({}, f"no block of a {family} has an accelerated form")
    same = "loss and gradients are those of the model's own blocks"
    return Acceleration(dict(Counter(map(kind, changed))), same + kernels)


def _with_liger(model: PreTrainedModel, expected: Measured, blocks: list[nn.Module]) -> str:
    """Let the blocks compute by Liger's kernels where these are there and give the same; what there is to say."""
    lacking = liger.lacking(model.device)
    if lacking is not None:
        return lacking and f"; {lacking}"
    changed = liger.put_in(blocks)
    problem = _problem(model, expected)
    if problem:
        liger.take_out(changed)
        return f"; Liger's kernels do not fit: {problem}"
    return "; Liger's kernels compute them" if changed else ""


def _problem(model: PreTrainedModel, expected: Measured) -> str | None:
    """What a model with changed blocks computes differently, None where nothing."""
    try:
        found, windows = _measured(model)
    except Exception as error:  # of a family's code, of a kernel's compiler: none of them need end the training
        return (str(error).splitlines() or [type(error).__name__])[0]
    if not _same(expected[0], found):
        return "loss or gradients differ"
    return None if windows == expected[1] else "their attention looks through another window"


def _measured(model: PreTrainedModel) -> Measured:
    """The loss of two short sequences and its gradients; the window of every attention.

    The gradients are those of everything that trains and of what the embeddings give, for soft prompts train nothing
    that these sequences meet. What is zero is moved a little for it: LoRA's product begins at zero, and so would its
    gradients.
    """
    generator = torch.Generator().manual_seed(0)
    trains = [parameter for parameter in model.parameters() if parameter.requires_grad]
    zeros = [parameter for parameter in trains if not parameter.any()]
    with torch.no_grad():
        for parameter in zeros:
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.01)
    try:
        with watched() as windows:
            return _loss_and_gradients(model, short_sequences(model, generator), trains), windows
    finally:
        with torch.no_grad():
            for parameter in zeros:
                parameter.zero_()


def _loss_and_gradients(model: PreTrainedModel, sequences: list[Tensor], trains: list[nn.Parameter]) -> list[Tensor]:
    answers = sequences if model.config.is_encoder_decoder else []
    spoken = torch.cat(sequences)
    where = torch.cat([torch.arange(3, LENGTHS[0] - 1), torch.arange(LENGTHS[0] + 4, len(spoken) - 1)])
    where = where.to(model.device)
    lengths = [len(ids) for ids in answers]
    boundaries = Boundaries(LENGTHS, lengths, None if answers else where, model.device)
    with packed(boundaries), _embedded(model) as seen:
        logits = model(**packed_inputs(model, sequences, answers), use_cache=False).logits[0]
        logits = logits if boundaries.taken else logits[where]
        loss = cross_entropy(logits.float(), spoken[where + 1])
        found = torch.autograd.grad(loss, [*trains, *seen], allow_unused=True)
    return [loss.detach(), *(loss.new_zeros(1) if gradient is None else _sample(gradient) for gradient in found)]


@contextmanager
def _embedded(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Collects what the embeddings give within the block, each with a gradient to ask for."""
    seen: list[Tensor] = []

    def watch(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        seen.append(output if output.requires_grad else output.requires_grad_())

    handle = model.get_input_embeddings().register_forward_hook(watch)
    try:
        yield seen
    finally:
        handle.remove()


def _sample(gradient: Tensor) -> Tensor:
    """Some thousand numbers spread over a gradient: two whole sets of them would fill the memory of a large model."""
    return gradient.flatten()[:: max(gradient.numel() // SAMPLE, 1)].clone()


def _same(expected: list[Tensor], found: list[Tensor]) -> bool:
    whole = torch.stack([part.norm() for part in expected[1:]]).norm()
    apart = torch.stack([(a - b).norm() for a, b in zip(expected[1:], found[1:], strict=True)]).norm()
    close = torch.isclose(expected[0], found[0], rtol=TOLERANCE, atol=0)
    return bool(close) and bool(apart <= TOLERANCE * whole)
