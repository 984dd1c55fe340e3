"""Tools and calls of them, in the spellings of OpenAI and of ShareGPT: JSON values, or the same as JSON text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from luthier.core.records import ToolCall
from luthier.data.cells import Unusable

SCHEMA = '{"type": "function", "function": {"name": ..., "parameters": {...}}}'
CALL = '{"name": ..., "arguments": {...}}'


def read_tools(value: Any) -> tuple[dict[str, Any], ...]:
    """A row's tools as `{type: function, function: {name, ...}}`, OpenAI's form; bare functions are put into it.

    Null, an empty list and blank text are no tools. Raises Unusable where anything is no tool.
    """
    listed = _several(_said(value, "the tools"))
    return tuple(_tool(number, tool) for number, tool in enumerate(listed, 1))


def _tool(number: int, tool: Any) -> dict[str, Any]:
    inner = tool.get("function", tool) if isinstance(tool, Mapping) else None
    if not isinstance(inner, Mapping) or not _is_name(inner.get("name")):
        raise Unusable(f"tool {number} is not {SCHEMA}")
    if inner is tool:
        return {"type": "function", "function": dict(tool)}
    if tool.get("type", "function") != "function":
        raise Unusable(f"tool {number} is of the type {tool['type']!r}, not a function")
    return {"type": "function", **tool}


def read_calls(value: Any, where: str) -> tuple[ToolCall, ...]:
    """The calls of one message: OpenAI's `tool_calls`, or ShareGPT's JSON text of one call or a list of them."""
    return tuple(_call(call, where) for call in _several(_said(value, f"{where}: the call")))


def _call(call: Any, where: str) -> ToolCall:
    inner = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(inner, Mapping) or not _is_name(inner.get("name")):
        raise Unusable(f"{where} has a call that is not {CALL}")
    if call.get("type") not in (None, "function"):
        raise Unusable(f"{where} has a call of the type {call['type']!r}, not of a function")
    arguments = _said(inner.get("arguments"), f"{where}: the arguments of {inner['name']}")
    if not isinstance(arguments, Mapping | None):
        raise Unusable(f"{where}: the arguments of {inner['name']} are not an object of named values")
    id = call.get("id")
    if id is not None and not isinstance(id, str):
        raise Unusable(f"{where} has a call whose id is not text")
    return ToolCall(inner["name"], dict(arguments or {}), id)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _several(value: Any) -> Sequence[Any]:
    """A list as it is, one object as a list of it, and nothing as an empty list."""
    if value is None:
        return ()
    return value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)


def _said(value: Any, what: str) -> Any:
    """The value, or what it says as JSON text; blank text says nothing."""
    try:
        said = (json.loads(value) if value.strip() else None) if isinstance(value, str) else value
        json.dumps(said, ensure_ascii=False, allow_nan=False).encode()
    except json.JSONDecodeError as error:
        raise Unusable(f"{what} cannot be read as JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise Unusable(f"{what} cannot be read as JSON: nested too deeply") from None
    except (TypeError, ValueError):  # a date of a Parquet file, NaN, half a character
        raise Unusable(f"{what} holds a value that JSON has no spelling for") from None
    return said
