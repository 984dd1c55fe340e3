"""From rendered examples to the tensors of one forward pass.

Padding-free where the family allows it (`Layout.packed`): sequences lie end to end in one row with restarting
positions, and attention never crosses from one to the next. Otherwise one row each, padded on the right. Both give
the same loss. Shapes: B examples, T longest sequence, N labelled positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from luthier.core.shards import IGNORED, Example
from luthier.models.load import Base
from luthier.objectives.contract import Batch, Vocabulary


@dataclass(frozen=True)
class Layout:
    """How a model wants its batches; `prefix` are virtual tokens put before every input."""

    encoder_decoder: bool
    packed: bool
    pad: int
    start: int = 0  # the first token that an encoder-decoder's decoder is given
    prefix: tuple[int, ...] = ()


def layout_of(base: Base, prefix: tuple[int, ...] = ()) -> Layout:
    """The layout of a loaded base."""
    start = base.model.config.decoder_start_token_id if base.encoder_decoder else 0
    pad = base.tokenizer.pad_token_id  # what stands there is never looked at: padding is masked by position
    return Layout(base.encoder_decoder, base.packed, pad if isinstance(pad, int) else 0, start, prefix)


def vocabulary_of(base: Base, stop: int) -> Vocabulary:
    """The token ids that objectives may need; sentinels are T5's `<extra_id_0>` and on."""
    known = base.tokenizer.get_vocab()
    sentinels = []
    while (name := f"<extra_id_{len(sentinels)}>") in known:
        sentinels.append(known[name])
    return Vocabulary(stop, base.encoder_decoder, tuple(sentinels))


def collate(examples: Sequence[Example], layout: Layout, device: torch.device | str = "cpu") -> Batch:
    """One batch of these examples."""
    examples = [_with_prefix(example, layout) for example in examples]
    if layout.encoder_decoder:
        batch = _encoder_decoder(examples, layout)
    elif layout.packed:
        batch = _packed(examples)
    else:
        batch = _padded(examples, layout)
    return _to(batch, device)


def _with_prefix(example: Example, layout: Layout) -> Example:
    if not layout.prefix:
        return example
    inputs = np.concatenate([layout.prefix, example.input_ids])
    if layout.encoder_decoder:
        return replace(example, input_ids=inputs)
    untrained = np.full(len(layout.prefix) + 1, IGNORED)  # and, as without a prefix, not the first token
    return replace(example, input_ids=inputs, labels=np.concatenate([untrained, example.labels[1:]]))


def _packed(examples: Sequence[Example]) -> Batch:
    lengths = np.array([len(example.input_ids) for example in examples])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    flat = np.concatenate([example.input_ids for example in examples])
    positions = np.concatenate([np.arange(length) for length in lengths])
    inputs = {"input_ids": _tensor(flat)[None], "position_ids": _tensor(positions)[None]}
    where, labels, owner = _next_tokens(examples, starts)
    return Batch(inputs, where, labels, owner, _rows(examples), len(flat), _tensor(lengths))


def _padded(examples: Sequence[Example], layout: Layout) -> Batch:
    ids, mask = _pad([example.input_ids for example in examples], layout.pad)
    starts = np.arange(len(examples)) * ids.shape[1]
    where, labels, owner = _next_tokens(examples, starts)
    inputs = {"input_ids": ids, "attention_mask": mask}
    return Batch(inputs, where, labels, owner, _rows(examples), int(mask.sum()))


def _encoder_decoder(examples: Sequence[Example], layout: Layout) -> Batch:
    ids, mask = _pad([example.input_ids for example in examples], layout.pad)
    said = [np.where(example.labels == IGNORED, layout.pad, example.labels) for example in examples]
    decoder_ids, _ = _pad([np.concatenate([[layout.start], labels[:-1]]) for labels in said], layout.pad)
    starts = np.arange(len(examples)) * decoder_ids.shape[1]
    found = [np.flatnonzero(example.labels != IGNORED) for example in examples]
    where = np.concatenate([start + at for start, at in zip(starts, found, strict=True)])
    labels = np.concatenate([example.labels[at] for example, at in zip(examples, found, strict=True)])
    owner = np.repeat(np.arange(len(examples)), [len(at) for at in found])
    inputs = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": decoder_ids}
    tokens = int(mask.sum()) + sum(len(labels) for labels in said)
    return Batch(inputs, _tensor(where), _tensor(labels), _tensor(owner), _rows(examples), tokens)


def _next_tokens(examples: Sequence[Example], starts: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """Where each label is predicted (one position before it), the labels, and whose they are."""
    found = [np.flatnonzero(example.labels[1:] != IGNORED) for example in examples]
    where = np.concatenate([start + at for start, at in zip(starts, found, strict=True)])
    labels = np.concatenate([example.labels[at + 1] for example, at in zip(examples, found, strict=True)])
    owner = np.repeat(np.arange(len(examples)), [len(at) for at in found])
    return _tensor(where), _tensor(labels), _tensor(owner)


def _pad(rows: Sequence[np.ndarray], pad: int) -> tuple[Tensor, Tensor]:
    """Rows padded on the right to the longest, and the mask of what is real (both B, T)."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    ids = np.full(mask.shape, pad, dtype=np.int64)
    ids[mask] = np.concatenate(rows)
    return _tensor(ids), _tensor(mask.astype(np.int64))


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.int64))


def _rows(examples: Sequence[Example]) -> tuple[int, ...]:
    return tuple(example.row for example in examples)


def _to(batch: Batch, device: torch.device | str) -> Batch:
    if torch.device(device).type == "cpu":
        return batch
    return replace(
        batch,
        inputs={name: tensor.to(device) for name, tensor in batch.inputs.items()},
        where=batch.where.to(device),
        labels=batch.labels.to(device),
        owner=batch.owner.to(device),
        lengths=None if batch.lengths is None else batch.lengths.to(device),
    )
