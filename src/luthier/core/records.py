"""The records that flow from the data stage to the served answer."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from luthier.core.errors import UserError


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a record was read: the recipe's name of the source, its file (or builtin / hub id), its row from 1."""

    source: str
    file: str
    row: int

    def __str__(self) -> str:
        return f"{self.file} row {self.row}"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Text:
    """Running text to be modelled whole."""

    text: str
    origin: Origin
    group: str | None = None


@dataclass(frozen=True, slots=True)
class PromptCompletion:
    """A prompt and its answer; `references` are further answers, beside `completion`, that evaluation accepts too.

    `fields` holds the row's own columns as text: templates and baselines such as `lead` look the input up there.
    """

    prompt: str
    completion: str
    origin: Origin
    group: str | None = None
    references: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A chat of any number of turns, which ends with the assistant's."""

    messages: tuple[Message, ...]
    origin: Origin
    group: str | None = None


Record = Text | PromptCompletion | Conversation
KINDS: dict[str, type] = {"text": Text, "prompt-completion": PromptCompletion, "conversation": Conversation}


def content(record: Record) -> dict[str, Any]:
    """What the record says, without where it came from."""
    body = asdict(record)
    for key in ("origin", "group", "fields"):
        body.pop(key, None)
    return body


def record_id(record: Record) -> str:
    """16 hexadecimal digits from the record's source and content: where lineage starts."""
    body = json.dumps([record.origin.source, content(record)], sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(body.encode()).hexdigest()[:16]


def input_text(record: Record) -> str:
    """All that the model is given before the last answer, as plain text."""
    if isinstance(record, PromptCompletion):
        return record.prompt
    if isinstance(record, Conversation):
        return "\n".join(m.content for m in record.messages[:-1])
    return ""


def answer_text(record: Record) -> str:
    """The answer to be learnt (the last assistant turn of a conversation; the whole of a text)."""
    if isinstance(record, PromptCompletion):
        return record.completion
    if isinstance(record, Conversation):
        return record.messages[-1].content
    return record.text


def full_text(record: Record) -> str:
    """Input and answer as one text: what duplicates are judged by."""
    given = input_text(record)
    return f"{given}\n{answer_text(record)}" if given else answer_text(record)


def own_column(record: Record, column: str, key: str) -> str:
    """The text in a column of the row itself; UserError, naming the recipe's `key`, where it has no such column."""
    fields = record.fields if isinstance(record, PromptCompletion) else {}
    if column not in fields:
        raise UserError(
            f"{key} is '{column}', which {record.origin} does not have: name one of its columns "
            f"({', '.join(sorted(fields)) or 'none'}) or leave {key} out"
        )
    return fields[column]


def to_json(record: Record) -> dict[str, Any]:
    """The record as JSON values, with its id and its kind."""
    kind = next(name for name, cls in KINDS.items() if isinstance(record, cls))
    return {"id": record_id(record), "kind": kind, **asdict(record)}


def from_json(body: Mapping[str, Any]) -> Record:
    """The record that `to_json` wrote."""
    values = {key: value for key, value in body.items() if key not in ("id", "kind")}
    values["origin"] = Origin(**values["origin"])
    if "messages" in values:
        values["messages"] = tuple(Message(**m) for m in values["messages"])
    if "references" in values:
        values["references"] = tuple(values["references"])
    return KINDS[body["kind"]](**values)


def with_prompt(record: PromptCompletion, prompt: str) -> PromptCompletion:
    """The same record under another prompt (few-shot evaluation)."""
    return replace(record, prompt=prompt)
