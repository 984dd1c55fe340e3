"""Memory of training by the shapes of model and batch: what is known before anything runs.

Floats of 4 bytes throughout: weights, and what trains, stay in fp32.

    weights      4 P                         P parameters
    training    12 P'                        P' that train: their gradients (4) and AdamW's two moments (8)
    activations  4 (sum over layers of T (8 D + 3 F) + 2 H C) + 12 N V

T tokens of the micro-batch, padding included, D width, F inner width, H heads, C entries of the attention's score
matrix (batch x length x length), which stands in memory twice where attention is not fused (C = 0 where it is),
N labelled positions, V vocabulary. Of a layer, backward needs the two normed inputs, queries, keys, values, what
attention gives, its projection and the sum (8 D), and the inner activation before, after and gated (3 F). The logits
stand there three times: as such, as log-probabilities, and as their gradient.

The formula leaves out what the interpreter, the libraries and the allocator take. The probe measures that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from luthier.objectives.contract import Batch

FLOAT = 4
SHARE = 0.12  # what a run may hold above the probe's peak: fragments of the allocator, batches of other lengths
SLACK = 32 * 2**20  # and what does not grow with the model: the journal, the optimiser's code, progress bars


@dataclass(frozen=True)
class Stack:
    """Some layers and the micro-batch they see: T `tokens`, and C `scores` (0 where attention is fused)."""

    layers: int
    tokens: int
    scores: int = 0


@dataclass(frozen=True)
class Shape:
    """The sizes of a model that memory depends on."""

    parameters: int
    trainable: int
    width: int
    inner: int
    heads: int
    vocabulary: int


def weight_bytes(shape: Shape) -> int:
    """The weights themselves."""
    return FLOAT * shape.parameters


def training_bytes(shape: Shape) -> int:
    """Gradients and AdamW's moments of what trains."""
    return 3 * FLOAT * shape.trainable


def activation_bytes(shape: Shape, stacks: tuple[Stack, ...], labels: int) -> int:
    """What a micro-batch keeps for its backward pass, with `labels` positions at the output layer."""
    floats = 3 * labels * shape.vocabulary
    for stack in stacks:
        each = stack.tokens * (8 * shape.width + 3 * shape.inner) + 2 * shape.heads * stack.scores
        floats += stack.layers * each
    return FLOAT * floats


def shape_of(config: Any, parameters: int, trainable: int) -> Shape:
    """The sizes that a transformers config names; an inner width it leaves open is four times the width."""
    inner = next(
        (v for n in ("intermediate_size", "d_ff", "n_inner", "ffn_dim") if (v := getattr(config, n, None))), 0
    )
    width = config.hidden_size
    return Shape(parameters, trainable, width, inner or 4 * width, config.num_attention_heads, config.vocab_size)


def stacks_of(config: Any, batch: Batch) -> tuple[Stack, ...]:
    """The layers of a model and what each sees of this batch."""
    rows, length = batch.inputs["input_ids"].shape
    decoder = batch.inputs.get("decoder_input_ids")
    if decoder is None:
        fused = config._attn_implementation != "eager"
        return (Stack(config.num_hidden_layers, rows * length, 0 if fused else rows * length**2),)
    spoken = decoder.shape[1]  # of each layer of the decoder, the scores of itself and those of the encoder's output
    decoders = getattr(config, "num_decoder_layers", None) or getattr(
        config, "decoder_layers", config.num_hidden_layers
    )
    return (
        Stack(config.num_hidden_layers, rows * length, rows * length**2),
        Stack(decoders, rows * spoken, rows * spoken * (spoken + length)),
    )


def shapes_bytes(shape: Shape, stacks: tuple[Stack, ...], labels: int) -> int:
    """The whole formula."""
    return weight_bytes(shape) + training_bytes(shape) + activation_bytes(shape, stacks, labels)


def predicted_bytes(peak: int) -> int:
    """The peak of a run whose probe peaked at `peak`."""
    return round(peak * (1 + SHARE)) + SLACK
