"""A collated batch taken apart again: what each row really gives the model, whatever made the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from luthier.core.records import Record
from luthier.core.shards import IGNORED, Example
from luthier.objectives.contract import Batch
from luthier.plan.subject import Row


def unpack(
    batch: Batch, prefix: int, record: Callable[[int], Record], written: Callable[[int], Example]
) -> list[Row]:
    """The rows of a batch without their `prefix` virtual tokens; `record` and `written` look a shard row up."""
    where, labels, owner = (tensor.cpu().numpy() for tensor in (batch.where, batch.labels, batch.owner))
    inputs, starts = _inputs(batch)
    decoder = batch.inputs.get("decoder_input_ids")
    if decoder is not None:
        answers = [decoder.shape[1]] * len(batch.rows) if batch.lengths is None else batch.answers[: len(batch.rows)]
        starts = np.cumsum([0, *answers[:-1]])
    rows = []
    for place, row in enumerate(batch.rows):
        mine = owner == place
        at, said = where[mine] - starts[place], labels[mine]
        example = written(row)
        if decoder is None:
            read, trained = inputs[place][prefix:], at + 1 - prefix  # position p predicts the token after it
            sequence = read
        else:
            read, trained, sequence = inputs[place][prefix:], at, _target(at, said, len(example.labels))
        rows.append(Row(record(row), read, sequence, trained, said, example))
    return rows


def _inputs(batch: Batch) -> tuple[list[np.ndarray], np.ndarray]:
    """The token ids of each row, and where each begins in the flattened ids."""
    ids = batch.inputs["input_ids"].cpu().numpy()
    if batch.lengths is not None:
        ends = np.cumsum(batch.lengths[: len(batch.rows)])
        starts = np.concatenate([[0], ends[:-1]])
        return [ids[0, start:end] for start, end in zip(starts, ends, strict=True)], starts
    mask = batch.inputs["attention_mask"].cpu().numpy().astype(bool)
    return [row[real] for row, real in zip(ids, mask, strict=True)], np.arange(len(ids)) * ids.shape[1]


def _target(at: np.ndarray, said: np.ndarray, length: int) -> np.ndarray:
    """What the decoder is to say (T,), with IGNORED where nothing is asked."""
    target = np.full(max(length, *(at + 1)) if len(at) else length, IGNORED)
    target[at] = said
    return target


def segments(row: Row, decode: Callable[[Sequence[int]], str]) -> list[tuple[str, bool]]:
    """The text trained on, cut where training begins and ends: (piece, is it trained)."""
    kept = row.sequence != IGNORED
    ids = row.sequence[kept].tolist()
    is_trained = np.isin(np.arange(len(row.sequence)), row.trained)[kept]
    cuts = [*(np.flatnonzero(np.diff(is_trained)) + 1).tolist(), len(ids)] if ids else []
    pieces, done = [], ""
    for start, end in zip([0, *cuts], cuts, strict=False):
        text = decode(ids[:end])  # the whole beginning: a tokenizer may drop the space at the start of a piece
        pieces.append((text[len(done) :], bool(is_trained[start])))
        done = text
    return pieces


def marked(pieces: Sequence[tuple[str, bool]]) -> str:
    """The pieces as one text with [[ ]] around what is trained."""
    return "".join(f"[[{text}]]" if is_trained else text for text, is_trained in pieces)
