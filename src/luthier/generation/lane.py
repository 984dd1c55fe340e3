"""The answers that share a batch: their rows, and the token that each was given last."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from torch import Tensor
from transformers import PreTrainedModel

from luthier.generation.batch import Batch, batch_of, without
from luthier.generation.packed import pack
from luthier.generation.request import Failed
from luthier.generation.sampling import choose
from luthier.generation.ticket import Row
from luthier.methods.mixed import Mixer

ROOM = 256  # columns for answers made at once, at most
TRIED = ((5, 3, 8), (2, 7))  # token ids of the self-test
TOLERANCE = 1e-3  # of the logits' spread


class Lane:
    """Rows of one model, each with an adapter of its own where the model has a `mixer`."""

    def __init__(self, model: PreTrainedModel, pad: int, mixer: Mixer | None) -> None:
        self.model, self.pad, self.mixer = model, pad, mixer
        pack(model)
        self.rows: list[Row] = []
        self.batch = batch_of(model, pad)
        self._tokens: list[int] = []

    @cached_property
    def joins(self) -> bool:
        """Whether a row may join others that are further on, found out by a self-test.

        Some decoders count their positions from the batch's beginning, and then a latecomer would answer otherwise.
        """
        self._select([])
        return joins(self.model, self.pad)

    def read(self, rows: Sequence[Row]) -> None:
        """Take in new rows and give each its first token."""
        self._select(rows)
        logits = self.batch.join([row.prompt for row in rows], min(max(row.room for row in rows), ROOM))
        before = len(self.rows)
        self.rows += rows
        self._give(logits, before)

    def step(self) -> None:
        """One more token for every row."""
        self._select(self.rows)
        tokens = torch.tensor(self._tokens, device=self.model.device)
        self._give(self.batch.advance(tokens), 0)

    def fail(self, error: Failed, joining: Sequence[Row] = ()) -> None:
        """Give all rows up, and those that were about to join."""
        for row in {*self.rows, *joining}:
            row.ticket.put(error)
        self.rows, self._tokens, self.batch = [], [], batch_of(self.model, self.pad)

    def _select(self, rows: Sequence[Row]) -> None:
        if self.mixer is not None:
            self.mixer.select([row.adapter.number for row in rows])

    def _give(self, logits: Tensor, first: int) -> None:
        """Choose the next token of the rows from `first` on, and let those go that are finished."""
        rows = self.rows[first:]
        self._tokens[first:] = choose(logits, [row.chooser for row in rows])
        gone = {at for at, row in enumerate(self.rows) if at >= first and row.take(self._tokens[at])}
        if gone:
            stay = without(len(self.rows), gone)
            self.batch.keep(stay)
            self.rows = [self.rows[at] for at in stay]
            self._tokens = [self._tokens[at] for at in stay]


def joins(model: PreTrainedModel, pad: int) -> bool:
    """Whether a row that joins another, one token later, gets the logits that it gets alone."""
    alone = []
    for prompt, steps in zip(TRIED, (2, 1), strict=True):
        batch = batch_of(model, pad)
        batch.join([prompt], 4)
        alone += [_advanced(batch, steps)[0]]
    batch = batch_of(model, pad)
    batch.join(TRIED[:1], 4)
    _advanced(batch, 1)
    batch.join(TRIED[1:], 4)
    together, apart = _advanced(batch, 1).float(), torch.stack(alone).float()
    return bool((together - apart).abs().max() <= TOLERANCE * apart.std())


def _advanced(batch: Batch, steps: int) -> Tensor:
    """The logits after some more tokens."""
    logits = torch.empty(0)
    for _ in range(steps):
        logits = batch.advance(torch.ones(batch.rows, dtype=torch.long, device=batch.model.device))
    return logits
