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


def read(file: Path) -> Steps:
    """The steps that `prepare` has written down."""
    held = np.load(file)

    def cut(name: str, lengths: str) -> list[list[int]]:
        return [part.tolist() for part in np.split(held[name], np.cumsum(held[lengths])[:-1])]

    rows = [
        Row(ids, labels)
        for ids, labels in zip(cut("input_ids", "input_lengths"), cut("labels", "label_lengths"), strict=True)
    ]
    ends = np.cumsum(held["steps"]).tolist()
    return [rows[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]


def order(steps: Steps, peer: Peer, seed: int = 0) -> Steps:
    """The examples as a peer takes them: those of like length together, within each step or in all."""
    if peer.apart:
        return [sorted(step, key=lambda row: -len(row.input_ids)) for step in steps]
    if peer.grouped:
        rows = sorted((row for step in steps for row in step), key=lambda row: -len(row.input_ids))
        ends = np.cumsum([len(step) for step in steps]).tolist()
        batches = [rows[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
        random.Random(seed).shuffle(batches)
        return batches
    return steps


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
