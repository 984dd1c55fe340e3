"""Greedy answers to many prompts at once: what evaluation asks for."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PreTrainedModel

from luthier.core.progress import bar
from luthier.generation.batch import batch_of, without
from luthier.generation.packed import packed


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    *,
    pad: int,
    stop: Collection[int],
    max_new_tokens: int,
    prefix: tuple[int, ...] = (),
    tokens_per_batch: int = 8192,
    title: str = "generating",
) -> list[list[int]]:
    """The most probable next token, again and again, until one of `stop` (not returned) or `max_new_tokens`.

    Answers come in the order of the prompts. `prefix` are virtual tokens put before every prompt. Prompts of like
    length share a batch, which holds at most `tokens_per_batch` tokens, answers included, or a single row.
    """
    inputs = [[*prefix, *prompt] for prompt in prompts]
    assert all(inputs), "a prompt without tokens has no next one"
    answers: list[list[int]] = [[] for _ in prompts]
    ends = torch.tensor(sorted(stop), dtype=torch.long, device=model.device)
    with evaluating(model), torch.no_grad(), packed(model), bar(title, len(prompts)) as progress:
        for rows in _batches([len(ids) for ids in inputs], max_new_tokens, tokens_per_batch):
            said = _greedy(model, [inputs[row] for row in rows], pad, ends, max_new_tokens)
            for row, answer in zip(rows, said, strict=True):
                answers[row] = answer
            progress.advance(len(rows))
    return answers


def _greedy(
    model: PreTrainedModel, prompts: Sequence[Sequence[int]], pad: int, ends: Tensor, max_new_tokens: int
) -> list[list[int]]:
    answers: list[list[int]] = [[] for _ in prompts]
    if not max_new_tokens:
        return answers
    batch = batch_of(model, pad)
    live = list(range(len(prompts)))
    tokens = batch.join(prompts, max_new_tokens).argmax(dim=-1)
    while True:
        stopped = torch.isin(tokens, ends)
        if stopped.any():
            stay = without(len(live), stopped.nonzero()[:, 0].tolist())
            live, tokens = [live[row] for row in stay], tokens[stay]
            batch.keep(stay)
        for row, token in zip(live, tokens.tolist(), strict=True):
            answers[row].append(token)
        if not live or len(answers[live[0]]) == max_new_tokens:
            return answers
        tokens = batch.advance(tokens).argmax(dim=-1)


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


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """No dropout within the block."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
