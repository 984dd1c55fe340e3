"""Greedy answers to many prompts at once, with a key-value cache.

Prompts of like length share a batch. Decoder-only models get theirs padded on the left, with the positions and the
mask that each would have alone; encoder-decoders get the encoder's input padded on the right. The model's own
generation settings are not consulted, so that none of them leaks in. Shapes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import PreTrainedModel

from luthier.core.progress import bar


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    encoder_decoder: bool,
    pad: int,
    stop: Collection[int],
    max_new_tokens: int,
    prefix: tuple[int, ...] = (),
    tokens_per_batch: int = 8192,
    title: str = "generating",
) -> list[list[int]]:
    """The most probable next token, again and again, until one of `stop` (not returned) or `max_new_tokens`.

    Answers come in the order of the prompts. `prefix` are virtual tokens put before every prompt. A batch holds at
    most `tokens_per_batch` tokens, answers included, or a single row.
    """
    inputs = [[*prefix, *prompt] for prompt in prompts]
    assert all(inputs), "a prompt without tokens has no next one"
    answers: list[list[int]] = [[] for _ in prompts]
    ends = torch.tensor(sorted(stop), dtype=torch.long, device=model.device)
    with _evaluating(model), torch.no_grad(), bar(title, len(prompts)) as progress:
        for rows in _batches([len(ids) for ids in inputs], max_new_tokens, tokens_per_batch):
            ids, mask = _pad([inputs[row] for row in rows], pad, left=not encoder_decoder)
            source = (_EncoderDecoder if encoder_decoder else _DecoderOnly)(
                model, ids.to(model.device), mask.to(model.device)
            )
            for row, answer in zip(rows, _greedy(source, len(rows), ends, max_new_tokens), strict=True):
                answers[row] = answer
            progress.advance(len(rows))
    return answers


class _Source(Protocol):
    """Where next-token logits come from: a batch that is being continued."""

    def advance(self, tokens: Tensor | None) -> Tensor:
        """Logits (B, V) after the tokens (B,) have been appended; None at the start."""
        ...

    def keep(self, rows: Tensor) -> None:
        """Go on with these rows only."""
        ...


class _DecoderOnly:
    def __init__(self, model: PreTrainedModel, ids: Tensor, mask: Tensor) -> None:
        self.model, self.ids, self.mask = model, ids, mask
        self.cache: Any = None
        accepted = inspect.signature(model.forward).parameters
        self.given_positions = "position_ids" in accepted  # others read them off the mask
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}

    def advance(self, tokens: Tensor | None) -> Tensor:
        positions = (self.mask.cumsum(dim=1) - 1).clamp(min=0)
        ids = self.ids
        if tokens is not None:
            ids = tokens[:, None]
            self.mask = torch.cat([self.mask, self.mask.new_ones(len(ids), 1)], dim=1)
            positions = self.mask.sum(dim=1, keepdim=True) - 1
        placed = {"position_ids": positions} if self.given_positions else {}
        output = self.model(
            input_ids=ids,
            attention_mask=self.mask,
            past_key_values=self.cache,
            use_cache=True,
            **placed,
            **self.last_only,
        )
        self.cache = output.past_key_values
        return output.logits[:, -1]

    def keep(self, rows: Tensor) -> None:
        self.mask = self.mask[rows]
        self.cache.batch_select_indices(rows)


class _EncoderDecoder:
    def __init__(self, model: PreTrainedModel, ids: Tensor, mask: Tensor) -> None:
        self.model, self.mask = model, mask
        self.cache: Any = None
        self.encoded = model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        self.start = ids.new_full((len(ids),), model.config.decoder_start_token_id)

    def advance(self, tokens: Tensor | None) -> Tensor:
        output = self.model(
            encoder_outputs=(self.encoded,),
            attention_mask=self.mask,
            decoder_input_ids=(self.start if tokens is None else tokens)[:, None],
            past_key_values=self.cache,
            use_cache=True,
        )
        self.cache = output.past_key_values
        return output.logits[:, -1]

    def keep(self, rows: Tensor) -> None:
        self.mask, self.encoded = self.mask[rows], self.encoded[rows]
        self.cache.batch_select_indices(rows)


def _greedy(source: _Source, count: int, ends: Tensor, max_new_tokens: int) -> list[list[int]]:
    answers: list[list[int]] = [[] for _ in range(count)]
    live = list(range(count))
    tokens = None
    for _ in range(max_new_tokens):
        tokens = source.advance(tokens).argmax(dim=-1)
        going = ~torch.isin(tokens, ends)
        if not going.all():
            rows = going.nonzero()[:, 0]
            tokens = tokens[rows]
            live = [live[i] for i in rows.tolist()]
            if not live:
                break
            source.keep(rows)
        for row, token in zip(live, tokens.tolist(), strict=True):
            answers[row].append(token)
    return answers


def _batches(lengths: Sequence[int], new: int, budget: int) -> Iterator[list[int]]:
    """Rows in groups of like length, the longest first, each within the budget, padding and answers included."""
    group: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if group and (len(group) + 1) * (lengths[group[0]] + new) > budget:
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _pad(rows: Sequence[Sequence[int]], pad: int, left: bool) -> tuple[Tensor, Tensor]:
    """Token ids and mask (both B, T)."""
    width = max(map(len, rows))
    ids, mask = torch.full((len(rows), width), pad), torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        where = slice(width - len(row), width) if left else slice(len(row))
        ids[i, where], mask[i, where] = torch.tensor(row), 1
    return ids, mask


@contextmanager
def _evaluating(model: PreTrainedModel) -> Iterator[None]:
    """No dropout within the block."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
