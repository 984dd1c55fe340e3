"""The least arithmetic with which a step can be computed, whatever computes it: what a useful share is measured by.

A multiplication and its addition are two operations. Counted are the matrix products that the gradient of what trains
cannot do without: of every weight the forward product and the gradient of its input; the gradient of the weight only
where it trains; no padding; output layer and the last layer's queries, attention and MLP at the labelled positions
alone; keys of the past alone. Recomputed activations do not count, for nothing demands them.

Shapes: `lengths` and `labels` are the tokens and the labelled tokens of each sequence; the labelled stand at its end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Decoder:
    """A Llama: `width` of all query heads together, `narrow` of all key heads, `inner` of the gated MLP."""

    hidden: int
    layers: int
    width: int
    narrow: int
    inner: int
    vocabulary: int


@dataclass(frozen=True)
class EncoderDecoder:
    """A T5 with gated MLPs, as many layers on either side."""

    hidden: int
    layers: int
    width: int
    inner: int
    vocabulary: int


@dataclass(frozen=True)
class Uses:
    """Rows that go through matrices of (inputs, outputs), and whether the gradient of those inputs is needed."""

    inputs: int
    outputs: int
    rows: float
    below: bool = True

    def operations(self, rank: int | None) -> float:
        """Of forward and backward pass: frozen with a LoRA of this rank beside it, or trained itself (None)."""
        product = 2.0 * self.inputs * self.outputs * self.rows
        thin = 0.0 if rank is None else 6.0 * rank * (self.inputs + self.outputs) * self.rows
        return product * (1 + self.below + (rank is None)) + thin


def decoder(shape: Decoder, lengths: Sequence[int], labels: Sequence[int], rank: int | None) -> float:
    """Operations of one step of a decoder-only model; `rank` of a LoRA on all linear layers, None: all is trained."""
    tokens, said = sum(lengths), sum(labels)
    uses = []
    for layer in range(shape.layers):
        rows = said if layer == shape.layers - 1 else tokens
        below = layer > 0 or rank is None  # nothing that trains lies below the first layer's inputs
        uses += [
            Uses(shape.hidden, shape.width, rows, below),
            *[Uses(shape.hidden, shape.narrow, tokens, below)] * 2,
            Uses(shape.width, shape.hidden, rows),
            *[Uses(shape.hidden, shape.inner, rows)] * 2,
            Uses(shape.inner, shape.hidden, rows),
        ]
    looks = (shape.layers - 1) * sum(map(triangle, lengths)) + sum(map(last_rows, lengths, labels))
    body = sum(use.operations(rank) for use in uses)
    return body + attention(shape.width, looks) + head(shape.hidden, shape.vocabulary, said, rank)


def encoder_decoder(shape: EncoderDecoder, lengths: Sequence[int], labels: Sequence[int], rank: int | None) -> float:
    """Operations of one step; every token of the decoder is labelled."""
    read, said = sum(lengths), sum(labels)
    uses = []
    for layer in range(shape.layers):
        below = layer > 0 or rank is None
        for rows in (read, said):
            uses += [
                *[Uses(shape.hidden, shape.width, rows, below)] * 3,
                Uses(shape.width, shape.hidden, rows),
                *[Uses(shape.hidden, shape.inner, rows)] * 2,
                Uses(shape.inner, shape.hidden, rows),
            ]
        uses += [Uses(shape.hidden, shape.width, said), Uses(shape.width, shape.hidden, said)]
        uses += [Uses(shape.hidden, shape.width, read)] * 2
    looks = sum(n * n + triangle(m) + n * m for n, m in zip(lengths, labels, strict=True)) * shape.layers
    body = sum(use.operations(rank) for use in uses)
    return body + attention(shape.width, looks) + head(shape.hidden, shape.vocabulary, said, rank)


def attention(width: int, looks: float) -> float:
    """Two products forward and four backward for every key that a query looks at."""
    return 12.0 * width * looks


def head(hidden: int, vocabulary: int, said: int, rank: int | None) -> float:
    """Output layer: forward, gradient of its input, and its own where it trains; LoRA leaves it alone."""
    return 2.0 * hidden * vocabulary * said * (2 + (rank is None))


def triangle(length: int) -> int:
    """Keys seen by all queries of a causal sequence."""
    return length * (length + 1) // 2


def last_rows(length: int, labelled: int) -> int:
    """Keys seen by the queries that predict the last `labelled` tokens: each stands one place before its token."""
    return triangle(length - 1) - triangle(length - 1 - labelled)
