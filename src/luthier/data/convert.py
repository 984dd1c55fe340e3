"""A row as it was read -> a record, or the reason why it cannot be one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from luthier.core.records import Conversation, Message, PromptCompletion, Record, Text
from luthier.data.layouts import View
from luthier.data.readers.row import Row

ROLES = ("system", "user", "assistant")


class Unusable(ValueError):
    """Why a row can be no record."""


def to_record(row: Row, view: View) -> Record:
    """The row as a record; raises Unusable with the reason where it can be none."""
    return CONVERTERS[view.layout](row, view, _group(row, view))


def _group(row: Row, view: View) -> str | None:
    if view.group is None:
        return None
    value = row.values.get(view.group)
    if value is None or value == "":
        raise Unusable(f"no value in column '{view.group}', which data.split.by needs")
    return str(value)


def _text_row(row: Row, view: View, group: str | None) -> Record:
    text = _text(row.values, view.columns["text"][0])
    if not text.strip():
        raise Unusable("empty text")
    return Text(text, row.origin, group)


def _prompt_completion(row: Row, view: View, group: str | None) -> Record:
    fields = _fields(row.values)
    prompt = _prompt(row, view, fields, view.columns.get("prompt", ()))
    completion, references = _answer(row.values, view)
    return PromptCompletion(prompt, completion, row.origin, group, references, fields)


def _alpaca(row: Row, view: View, group: str | None) -> Record:
    if row.values.get("history"):
        raise Unusable("has a 'history' of earlier turns: write such rows as messages")
    fields = _fields(row.values)
    further = tuple(column for column in view.columns.get("input", ()) if column in row.values)
    prompt = _prompt(row, view, fields, view.columns["instruction"] + further)
    completion, references = _answer(row.values, view)
    system = row.values.get("system")
    if system:
        turns = (("system", _text(row.values, "system")), ("user", prompt), ("assistant", completion))
        return Conversation(tuple(Message(role, content) for role, content in turns), row.origin, group)
    return PromptCompletion(prompt, completion, row.origin, group, references, fields)


def _prompt(row: Row, view: View, fields: Mapping[str, str], columns: Sequence[str]) -> str:
    """The filled template; without one, the columns with a blank line between. Something must stand in them."""
    if view.template is None:
        parts = [_text(row.values, column) for column in columns]
        prompt = "\n\n".join(part for part in parts if part)
    else:
        columns = view.template.columns
        parts = [_field(row.values, fields, column) for column in columns]
        prompt = view.template.fill(fields)
    if columns and not any(part.strip() for part in parts):
        raise Unusable(f"empty prompt: nothing in {', '.join(columns)}")
    return prompt


def _answer(values: Mapping[str, Any], view: View) -> tuple[str, tuple[str, ...]]:
    """The answer, and the further ones that are accepted too, of a row that has more than one."""
    columns = view.answer
    answers: list[str] = []
    for column in columns:
        value = _present(values, column)
        if isinstance(value, list):
            answers += [_is_text(item, column) for item in value]
        else:
            answers.append(_text(values, column))
    answers = [answer for answer in answers if answer.strip()]
    if not answers:
        raise Unusable(f"empty answer: nothing in {', '.join(columns)}")
    return answers[0], tuple(answers[1:])


def _messages(row: Row, view: View, group: str | None) -> Record:
    turns = _present(row.values, view.columns["messages"][0])
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise Unusable("the messages are not a list of {role, content}")
    if row.values.get("tools"):
        raise Unusable("has 'tools', which Luthier does not learn from yet")
    messages = tuple(_message(number, turn) for number, turn in enumerate(turns, 1))
    if any(m.role == "system" for m in messages[1:]):
        raise Unusable("a system message after the first message")
    if messages[-1].role != "assistant":
        raise Unusable(f"ends with the {messages[-1].role}'s message, not with an assistant's answer")
    if not messages[-1].content.strip():
        raise Unusable("empty answer: nothing in the last message")
    if not any(m.role == "user" for m in messages):
        raise Unusable("no user's message to answer")
    return Conversation(messages, row.origin, group)


def _message(number: int, turn: Any) -> Message:
    where = f"message {number}"
    if not isinstance(turn, Mapping):
        raise Unusable(f"{where} is not an object with role and content")
    role, content = turn.get("role"), turn.get("content")
    if role not in ROLES:
        raise Unusable(f"{where} has the unknown role {role!r}: known are {', '.join(ROLES)}")
    extra = [key for key, value in turn.items() if key not in ("role", "content") and value is not None]
    if extra:
        raise Unusable(f"{where} has '{extra[0]}', which Luthier does not learn from yet")
    if isinstance(content, list):
        content = "".join(_part(where, part) for part in content)
    if not isinstance(content, str):
        raise Unusable(f"{where} has no text as its content")
    return Message(str(role), content)


def _part(where: str, part: Any) -> str:
    """The text of one part of a message whose content is a list (the OpenAI form)."""
    if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise Unusable(f"{where} has a part that is not {{type: text, text: ...}}")
    return part["text"]


def _present(values: Mapping[str, Any], column: str) -> Any:
    if column not in values:
        raise Unusable(f"no column '{column}'")
    return values[column]


def _text(values: Mapping[str, Any], column: str) -> str:
    value = _present(values, column)
    return "" if value is None else _is_text(value, column)


def _is_text(value: Any, column: str) -> str:
    if not isinstance(value, str):
        raise Unusable(f"column '{column}' holds {type(value).__name__}, not text: write it in quotes")
    return value


def _field(values: Mapping[str, Any], fields: Mapping[str, str], column: str) -> str:
    _present(values, column)
    if column not in fields:
        raise Unusable(f"column '{column}' holds {type(values[column]).__name__}, not text")
    return fields[column]


def _fields(values: Mapping[str, Any]) -> dict[str, str]:
    """The row's plain columns as text: what templates and baselines look up."""
    return {
        column: "" if value is None else str(value)
        for column, value in values.items()
        if value is None or isinstance(value, str | int | float | bool)
    }


CONVERTERS: dict[str, Callable[[Row, View, str | None], Record]] = {
    "text": _text_row,
    "prompt-completion": _prompt_completion,
    "alpaca": _alpaca,
    "messages": _messages,
}
