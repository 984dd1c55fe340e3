"""What texts and tokens are compared by: independent of the code that rendered the rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from luthier.core.records import Conversation, Record, Text, answer_text
from luthier.plan.subject import Row, Subject

WINDOW = 12  # characters in a row that two texts must share to be called the same text


def squeezed(text: str) -> str:
    """The text without white space, about which tokenizers and templates differ without harm."""
    return "".join(text.split())


def decoded(subject: Subject, tokens: Iterable[int]) -> str:
    """The squeezed text of the tokens without special ones and without those that end an answer."""
    return squeezed(subject.text((t for t in tokens if t not in subject.template.stop_ids), special=False))


def as_tokenized(subject: Subject, text: str) -> str:
    """The squeezed text after a round trip through the tokenizer: what of it can be in any token at all."""
    return decoded(subject, subject.tokenizer(text, add_special_tokens=False)["input_ids"])


def answers(subject: Subject, record: Record) -> list[str]:
    """The texts that the recipe wants to be learnt from this record."""
    if isinstance(record, Conversation) and subject.data.train_on != "answer":
        return [m.text for m in record.messages if m.role == "assistant" and m.weight != 0]
    return [answer_text(record)]


def in_words(subject: Subject, record: Record) -> bool:
    """Whether what is to be learnt is trained as the record says it: a template has its own words for calls."""
    if not isinstance(record, Conversation):
        return True
    earlier = record.messages if subject.data.train_on != "answer" else ()
    return not any(message.calls for message in (*earlier, record.messages[-1]))


def others(subject: Subject, record: Record) -> list[str]:
    """The texts of the record that are given to the model and not to be learnt."""
    if isinstance(record, Conversation):
        learnt = answers(subject, record)
        return [m.content for m in record.messages[:-1] if m.content not in learnt]
    return [] if isinstance(record, Text) else [record.prompt]


def has_answer(record: Record) -> bool:
    """Whether the record has a prompt and an answer, and an answer that says something."""
    return not isinstance(record, Text) and bool(answer_text(record).strip())


def shares(piece: str, text: str) -> bool:
    """Whether twelve characters in a row (or all, of a shorter text) of `piece` stand in `text`, both squeezed."""
    width = min(WINDOW, len(piece), len(text))
    return width > 0 and any(piece[i : i + width] in text for i in range(len(piece) - width + 1))


def is_cut(subject: Subject, row: Row) -> bool:
    """Whether the row fills the context, so that something was cut off to make it fit."""
    return len(row.inputs) >= subject.context


def starts_with(tokens: Sequence[int] | np.ndarray, beginning: Sequence[int] | np.ndarray) -> bool:
    """Whether the tokens begin with these."""
    return np.array_equal(np.asarray(tokens)[: len(beginning)], np.asarray(beginning))
