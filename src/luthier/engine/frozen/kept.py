"""One shard's forward passes: a batch whose rows are all on disk starts above the frozen part, any other is kept.

Shapes: B rows, T tokens, D width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luthier.core.events import warn
from luthier.core.shards import Shard
from luthier.engine.frozen.part import Part
from luthier.engine.frozen.replay import given, in_form_of, states_of, taken
from luthier.engine.frozen.store import Store
from luthier.objectives.contract import Batch


class Kept:
    """A context for the forward pass of a batch of this shard's rows.

    `form` is what the part once gave: states that are read take its place among other things.
    """

    def __init__(self, part: Part, form: Any, shard: Shard, store: Store) -> None:
        self._part, self._form, self._shard, self._store = part, form, shard, store
        self._fails = False

    @contextmanager
    def __call__(self, batch: Batch) -> Iterator[None]:
        """Replay or keep; a batch whose inputs an objective has rewritten is computed as ever."""
        usable = not self._fails and _as_stored(batch, self._shard)
        states = self._read(batch) if usable else None
        if states is not None:
            with given(self._part, in_form_of(self._form, states)):
                yield
            return
        with taken(self._part) as outputs:
            yield
        if usable:
            self._write(batch, states_of(outputs[-1]))

    def _read(self, batch: Batch) -> Tensor | None:
        """The states (B, T, D) of a batch, 0 where it is padded; None where a row of it is not there."""
        if not all(map(self._store.holds, batch.rows)):
            return None
        ids = batch.inputs["input_ids"]
        states = torch.zeros(*ids.shape, states_of(self._form).shape[-1], dtype=self._store.dtype)
        try:
            if not all([self._store.read(row, part) for row, part in self._parts(batch, states)]):
                return None
        except OSError as error:
            self._give_up(error)
            return None
        return states.to(ids.device)

    def _write(self, batch: Batch, states: Tensor) -> None:
        try:
            for row, part in self._parts(batch, states.detach()):
                if not self._store.holds(row):
                    self._store.write(row, part)
        except OSError as error:
            self._give_up(error)

    def _parts(self, batch: Batch, states: Tensor) -> list[tuple[int, Tensor]]:
        """Each row with its part (T, D) of a batch's states."""
        lengths = [self._store.length(row) for row in batch.rows]
        if batch.lengths is not None:
            return list(zip(batch.rows, states[0, : sum(lengths)].split(lengths), strict=True))  # filler comes last
        return [(row, own[:length]) for row, own, length in zip(batch.rows, states, lengths, strict=True)]

    def _give_up(self, error: OSError) -> None:
        self._fails = True
        self._store.clear()
        warn(
            "train.frozen",
            f"{self._store.folder}: {error.strerror or error}: going on without what is kept there",
        )


def _as_stored(batch: Batch, shard: Shard) -> bool:
    """Whether the batch's inputs are those of the shard's rows to the token."""
    ids, stored = batch.inputs["input_ids"].cpu(), [shard[row].input_ids for row in batch.rows]
    if batch.lengths is None:
        read = ids[batch.inputs["attention_mask"].cpu().bool()]
        return np.array_equal(read.numpy(), np.concatenate(stored))
    if batch.lengths[: len(stored)] != tuple(map(len, stored)):
        return False
    return np.array_equal(ids[0, : sum(map(len, stored))].numpy(), np.concatenate(stored))
