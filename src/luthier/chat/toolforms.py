"""How a chat template wants to be given tools: found by trying, since templates differ and few of them complain."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.core.errors import UserError
from luthier.core.records import Message, ToolCall

Write = Callable[[Sequence[dict[str, Any]], Sequence[dict[str, Any]]], str]  # turns and tools -> the template's text

NAME, KEY, VALUE = "find_way", "city", "Brundisium"
CALL_ID = "call00001"  # some templates take nothing but nine letters and digits
TOOL = {
    "type": "function",
    "function": {
        "name": NAME,
        "description": "Finds a way.",
        "parameters": {
            "type": "object",
            "properties": {KEY: {"type": "string", "description": "Where to."}},
            "required": [KEY],
        },
    },
}
QUESTION = Message("user", "Quo vadis?")
CALL = Message("assistant", "", calls=(ToolCall(NAME, {KEY: VALUE}, CALL_ID),))
RESULT = Message("tool", "Via Appia.", name=NAME, call_id=CALL_ID)
ANSWER = Message("assistant", "Via Appia eo.")


@dataclass(frozen=True)
class CallForm:
    """Whether a message of nothing but calls has empty content, and whether arguments are JSON text or an object."""

    empty: bool = False
    as_text: bool = False

    def turn(self, message: Message) -> dict[str, Any]:
        """The message as chat templates take it."""
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.calls:
            turn["tool_calls"] = [self._call(call) for call in message.calls]
            if not message.content and not self.empty:
                del turn["content"]
        if message.name is not None:
            turn["name"] = message.name
        if message.call_id is not None:
            turn["tool_call_id"] = message.call_id
        return turn

    def _call(self, call: ToolCall) -> dict[str, Any]:
        arguments = json.dumps(call.arguments, ensure_ascii=False) if self.as_text else dict(call.arguments)
        own = {} if call.id is None else {"id": call.id}
        return {**own, "type": "function", "function": {"name": call.name, "arguments": arguments}}


FORMS = (CallForm(), CallForm(empty=True), CallForm(as_text=True), CallForm(empty=True, as_text=True))


def writes_tools(write: Write) -> bool:
    """Whether the template writes the tools that it is given."""
    return NAME in _tried(write, [CallForm().turn(QUESTION)], [TOOL])


def call_form(write: Write) -> CallForm | None:
    """The form in which the template writes a call with its arguments; None where it writes none in any form.

    An object written as Python shows it, or text put in quotes as text once more, is the wrong form.
    """
    wrong = f"{{'{KEY}'", f'{{\\"{KEY}'
    for form in FORMS:
        turns = [form.turn(message) for message in (QUESTION, CALL, RESULT, ANSWER)]
        text = _tried(write, turns, [TOOL] if writes_tools(write) else [])
        if VALUE in text and not any(sign in text for sign in wrong):
            return form
    return None


def _tried(write: Write, turns: Sequence[dict[str, Any]], tools: Sequence[dict[str, Any]]) -> str:
    """What the template writes, nothing where it refuses."""
    try:
        return write(turns, tools)
    except UserError:
        return ""


def is_written(content: str, text: str) -> bool:
    """Whether the content stands in the text, as it is or as JSON writes it."""
    bare = content.strip()
    return bare in text or json.dumps(bare, ensure_ascii=False)[1:-1] in text
