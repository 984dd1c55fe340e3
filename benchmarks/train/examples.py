"""The examples of every step, as both sides get them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.train.cases import Cell, Peer
from benchmarks.train.flops import Decoder, EncoderDecoder, decoder, encoder_decoder

IGNORED = -100


@dataclass(frozen=True)
class Row:
    """Input and labels; a decoder-only model's labels are as long as its input, IGNORED where nothing is asked."""

    input_ids: list[int]
    labels: list[int]

    @property
    def said(self) -> int:
        """How many tokens are labelled."""
        return sum(label != IGNORED for label in self.labels)


Steps = list[list[Row]]


@dataclass(frozen=True)
class Examples:
    """All rows, and those of each step (steps, rows of a step) as Luthier has planned them."""

    rows: list[Row]
    planned: list[list[int]]

    def steps(self, peer: Peer | None = None) -> Steps:
        """The examples of each step as a peer, or Luthier, takes them.

        A step in micro-batches is sorted by length. Grouped, all rows are: batches of neighbours, in random order.
        """
        if peer and peer.grouped:
            size, order = len(self.planned[0]), sorted(self.rows, key=_length)
            batches = [order[start : start + size] for start in range(0, len(order) - size + 1, size)]
            random.Random(0).shuffle(batches)
            return [batches[number % len(batches)] for number in range(len(self.planned))]
        steps = [[self.rows[row] for row in step] for step in self.planned]
        return [sorted(step, key=_length) for step in steps] if peer and peer.apart else steps


def _length(row: Row) -> int:
    return -len(row.input_ids)


def read(file: Path) -> Examples:
    """What `prepare` has written down."""
    held = np.load(file)

    def cut(name: str, lengths: str) -> list[list[int]]:
        return [part.tolist() for part in np.split(held[name], np.cumsum(held[lengths])[:-1])]

    rows = zip(cut("input_ids", "input_lengths"), cut("labels", "label_lengths"), strict=True)
    return Examples([Row(ids, labels) for ids, labels in rows], held["steps"].tolist())


def tokens(step: Sequence[Row], separate: bool) -> int:
    """Tokens that a step reads; an encoder-decoder also reads its labels, `separate` from the input."""
    return sum(len(row.input_ids) + separate * len(row.labels) for row in step)


def padding(peer: Peer, steps: Steps) -> float:
    """Share of what a peer computes that is padding."""
    if peer.padding_free:
        return 0.0
    real = padded = 0
    for step in steps:
        apart = peer.apart or len(step)
        for start in range(0, len(step), apart):
            rows = step[start : start + apart]
            real += sum(len(row.input_ids) for row in rows)
            padded += len(rows) * max(len(row.input_ids) for row in rows)
    return 1 - real / padded


def operations(cell: Cell, step: Sequence[Row], rank: int | None) -> float:
    """The least operations of a step."""
    model = cell.model
    width = model.heads * model.head
    lengths, said = [len(row.input_ids) for row in step], [row.said for row in step]
    if model.encoder_decoder:
        shape = EncoderDecoder(model.hidden, model.layers, width, model.inner, model.vocabulary)
        return encoder_decoder(shape, lengths, said, rank)
    return decoder(
        Decoder(model.hidden, model.layers, width, width, model.inner, model.vocabulary), lengths, said, rank
    )
