"""What a tuned model must beat: the base shown a few examples, and the first sentences of the input."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np

from luthier.core.records import (
    Conversation,
    Message,
    PromptCompletion,
    Record,
    answer_text,
    full_text,
    input_text,
    own_column,
    with_prompt,
)

SHORTEST = 0.25  # examples are drawn from this share of the training rows, the shortest ones
SENTENCE = re.compile(r"(?<=[.!?。！？])[\"'”’)\]]*\s+")
SPEAKER = re.compile(r"^\s*(#[^#\s]+#|[A-Z][\w .'-]{0,30})\s*:")


def choose_examples(train: Sequence[Record], k: int, seed: int) -> list[Record]:
    """`k` training rows for the few-shot prompt: drawn by seed from the shortest quarter, so that they fit."""
    lengths = np.array([len(full_text(record)) for record in train])
    short = np.argsort(lengths, kind="stable")[: max(k, round(SHORTEST * len(train)))]
    drawn = np.random.default_rng(seed).choice(short, size=min(k, len(short)), replace=False)
    return [train[int(row)] for row in drawn]


def few_shot(record: Record, examples: Sequence[Record], chat: bool) -> Record:
    """The record with the examples put before it: as earlier turns for a chat template, else as text."""
    if chat or isinstance(record, Conversation):
        own = _turns(record)
        opening = tuple(m for m in own if m.role == "system")
        shown = [m for example in examples for m in _turns(example) if m.role != "system"]
        rest = tuple(m for m in own if m.role != "system")
        tools = record.tools if isinstance(record, Conversation) else ()
        return Conversation((*opening, *shown, *rest), record.origin, record.group, tools)
    assert isinstance(record, PromptCompletion), "running text has no prompt"
    shown = [_join(input_text(example), answer_text(example)) for example in examples]
    return with_prompt(record, "\n\n".join([*shown, record.prompt]))


def fitting(
    record: Record, examples: Sequence[Record], chat: bool, length: Callable[[Record], int], limit: int
) -> tuple[Record, int]:
    """The few-shot record with as many of the examples as keep `length` within `limit`, and how many those are."""
    for k in range(len(examples), 0, -1):
        shown = few_shot(record, examples[:k], chat)
        if length(shown) <= limit:
            return shown, k
    return record, 0


def _turns(record: Record) -> tuple[Message, ...]:
    if isinstance(record, Conversation):
        return record.messages
    return (Message("user", input_text(record)), Message("assistant", answer_text(record)))


def _join(prompt: str, answer: str) -> str:
    return prompt + answer if not prompt or prompt[-1].isspace() else f"{prompt} {answer}"


def sentences(text: str) -> list[str]:
    """The sentences of a text; a line of dialogue (`#Person1#: ...`, `Anna: ...`) counts as one."""
    found: list[str] = []
    for line in text.splitlines():
        parts = [line] if SPEAKER.match(line) else SENTENCE.split(line)
        found.extend(part.strip() for part in parts if part.strip())
    return found


def target_words(train: Sequence[Record]) -> float:
    """The median length of the training answers in words."""
    return median(len(answer_text(record).split()) for record in train) if train else 0.0


def lead(text: str, words: float) -> str:
    """The first sentences of a text: as many as come nearest to `words`, and at least one."""
    parts = sentences(text)
    totals = np.cumsum([len(part.split()) for part in parts])
    if not len(totals):
        return ""
    return " ".join(parts[: int(np.argmin(np.abs(totals - words))) + 1])


def lead_source(record: Record, column: str | None) -> str:
    """The text whose first sentences are taken: the named column, or what the model is given."""
    if column is None:
        if isinstance(record, Conversation):
            return next((m.content for m in reversed(record.messages[:-1]) if m.role == "user"), "")
        return input_text(record)
    return own_column(record, column, "evaluate.lead")
