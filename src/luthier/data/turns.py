"""A row's list of turns -> messages, whatever its keys and roles are called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from luthier.core.records import Message, ToolCall
from luthier.data.cells import Unusable
from luthier.data.tools import read_calls

CALL = "call"  # the role of a turn that is nothing but a call of a tool
READ = {"assistant": ("weight", "tool_calls"), CALL: ("weight",), "tool": ("weight", "name", "tool_call_id")}
OLD = {"function_call": "tool_calls", "functions": "tools"}  # OpenAI's spellings of 2023


@dataclass(frozen=True)
class Spelling:
    """How a data set writes a turn: the keys of its role and content, and its names for the roles of ours."""

    role: str
    content: str
    roles: Mapping[str, str]

    def __str__(self) -> str:
        return f"{{{self.role}, {self.content}}}"


OPENAI = Spelling(
    "role",
    "content",
    {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"},
)
SHAREGPT = Spelling(
    "from",
    "value",
    {
        "system": "system",
        "human": "user",
        "user": "user",
        "gpt": "assistant",
        "assistant": "assistant",
        "function_call": CALL,
        "observation": "tool",
        "tool": "tool",
    },
)


def are_turns(value: Any, spelling: Spelling) -> bool:
    """Whether the value is a list of turns that are written in this way."""
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, Mapping) and spelling.role in first and spelling.content in first


def read_turns(turns: Any, spelling: Spelling) -> tuple[Message, ...]:
    """The messages up to the last answer that may be trained: what follows it would teach nothing.

    Raises Unusable with the reason, naming the message by its number from 1.
    """
    if not isinstance(turns, Sequence) or isinstance(turns, str) or not turns:
        raise Unusable(f"the messages are not a list of {spelling}")
    messages = tuple(_message(f"message {number}", turn, spelling) for number, turn in enumerate(turns, 1))
    _check_order(messages)
    if messages[-1].role != "assistant":
        raise Unusable(f"ends with the {messages[-1].role}'s message, not with an assistant's answer")
    trained = [number for number, m in enumerate(messages, 1) if m.role == "assistant" and m.weight != 0]
    if not trained:
        raise Unusable("every answer has the weight 0: nothing is left to learn")
    messages = messages[: trained[-1]]
    if not messages[-1].text.strip():
        raise Unusable("empty answer: nothing in the last message")
    if not any(m.role == "user" for m in messages):
        raise Unusable("no user's message to answer")
    return messages


def _check_order(messages: Sequence[Message]) -> None:
    asked: set[str] = set()  # ids of the calls that a tool may answer now
    for number, message in enumerate(messages, 1):
        before = messages[number - 2].role if number > 1 else None
        if message.role == "system" and before is not None:
            raise Unusable("a system message after the first message")
        if message.role == "tool" and before not in ("assistant", "tool"):
            raise Unusable(f"message {number} is a tool's, but no assistant's message stands before it")
        if message.role == "tool" and asked and message.call_id is not None and message.call_id not in asked:
            raise Unusable(f"message {number} answers the call {message.call_id!r}, which nothing before it makes")
        if message.role != "tool":
            asked = {call.id for call in message.calls if call.id is not None}


def _message(where: str, turn: Any, spelling: Spelling) -> Message:
    if not isinstance(turn, Mapping):
        raise Unusable(f"{where} is not an object with {spelling.role} and {spelling.content}")
    written = turn.get(spelling.role)
    role = spelling.roles.get(written) if isinstance(written, str) else None
    if role is None:
        known = ", ".join(spelling.roles)
        raise Unusable(f"{where} has the unknown role {written!r} under '{spelling.role}': known are {known}")
    _refuse_unread(where, turn, role, spelling)
    weight = _weight(where, turn.get("weight"), role)
    if role == CALL:
        calls = read_calls(turn.get(spelling.content), where)
        if not calls:
            raise Unusable(f"{where} has no call in it")
        return Message("assistant", "", weight, calls)
    calls = read_calls(turn.get("tool_calls"), where)
    content = _content(where, turn.get(spelling.content), calls)
    return Message(role, content, weight, calls, turn.get("name"), turn.get("tool_call_id"))


def _refuse_unread(where: str, turn: Mapping[str, Any], role: str, spelling: Spelling) -> None:
    """Refuse a key that nothing would read: what it says would be lost without a word."""
    read = (spelling.role, spelling.content, *READ.get(role, ("weight",)))
    for key, value in turn.items():
        if key in read or value is None or value == []:
            continue
        if key in OLD:
            raise Unusable(f"{where} has '{key}', the old spelling of '{OLD[key]}': write that")
        if any(key in keys for keys in READ.values()):
            raise Unusable(f"{where} has '{key}', which the role {role} does not have")
        raise Unusable(f"{where} has '{key}', which Luthier does not learn from yet")
    for key in ("name", "tool_call_id"):
        if not isinstance(turn.get(key), str | None):
            raise Unusable(f"{where} has a '{key}' that is not text")


def _weight(where: str, value: Any, role: str) -> int | None:
    """0, 1, or None where the data leaves it to the recipe; only an assistant's turn can ask to be trained."""
    if value is None:
        return None
    if isinstance(value, bool) or value not in (0, 1):
        raise Unusable(f"{where} has the weight {value!r}: write 0 (not trained) or 1 (trained)")
    if role in ("assistant", CALL):
        return int(value)
    if value:
        raise Unusable(f"{where} has the weight 1, but only an assistant's message can be trained by its weight")
    return None


def _content(where: str, content: Any, calls: tuple[ToolCall, ...]) -> str:
    if content is None and calls:
        return ""
    if isinstance(content, list):
        content = "".join(_part(where, part) for part in content)
    if not isinstance(content, str):
        raise Unusable(f"{where} has no text as its content")
    return content


def _part(where: str, part: Any) -> str:
    """The text of one part of a message whose content is a list (the OpenAI form)."""
    if not isinstance(part, Mapping) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise Unusable(f"{where} has a part that is not {{type: text, text: ...}}")
    return part["text"]
