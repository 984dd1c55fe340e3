"""Rows of .jsonl and .json files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from json import JSONDecodeError, JSONDecoder
from pathlib import Path
from typing import Any

from luthier.core.errors import UserError
from luthier.data.readers.decode import lines
from luthier.data.readers.row import Bad, Found

TOO_DEEP = "JSON nested too deeply"


def read_jsonl(path: Path) -> Iterator[Found]:
    """One object a line; the row's number is its line's, and lines of nothing but spaces are no rows."""
    for number, line in enumerate(lines(path), 1):
        if not line.isspace():
            yield number, _parse_line(line.rstrip("\r\n"))


def _parse_line(line: str) -> Mapping[str, Any] | Bad:
    try:
        value = json.loads(line)
    except JSONDecodeError as error:
        return Bad(f"broken JSON at column {error.colno}: {error.msg}", line)
    except RecursionError:
        return Bad(TOO_DEEP, line)
    return _object(value, line)


def _object(value: Any, raw: Any) -> Mapping[str, Any] | Bad:
    if not isinstance(value, dict):
        return Bad(f"a JSON {type(value).__name__}, not an object of named values", raw)
    if _has_half_character(value, raw):
        return Bad("text with half a character (a lone surrogate such as \\ud83d)", raw)
    return value


def _has_half_character(value: Any, raw: Any) -> bool:
    if isinstance(raw, str) and "\\ud" not in raw.lower():
        return False
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def read_json(path: Path) -> Iterator[Found]:
    """A list of objects, or an object with the list under `data`; the row's number is its place in the list."""
    text = "".join(lines(path))
    at, row = _skip(text, _list_start(path, text) + 1), 0
    while text[at : at + 1] != "]":
        row += 1
        try:
            found, at = _element(text, at)
        except JSONDecodeError as error:
            raise UserError(
                f"{path} row {row} (line {error.lineno}, column {error.colno}): broken JSON: {error.msg}; mend it, "
                "or write one object a line in a .jsonl file, where a broken row costs only itself"
            ) from None
        except RecursionError:
            raise UserError(f"{path} row {row}: {TOO_DEEP}: write flatter rows") from None
        yield row, found


def _element(text: str, at: int) -> tuple[Mapping[str, Any] | Bad, int]:
    """The list's element that begins at `at`, and the place of the next one or of the closing bracket."""
    value, end = JSONDecoder().raw_decode(text, at)
    after = _skip(text, end)
    if text[after : after + 1] == ",":
        after = _skip(text, after + 1)
    elif text[after : after + 1] != "]":
        raise JSONDecodeError("expected ',' or ']'", text, after)
    return _object(value, text[at:end]), after


def _skip(text: str, at: int) -> int:
    """The place of the next character that is no space."""
    while text[at : at + 1] in (" ", "\n", "\r", "\t") and at < len(text):
        at += 1
    return at


def _list_start(path: Path, text: str) -> int:
    """The place of the list's opening bracket."""
    start = _skip(text, 0)
    if text[start : start + 1] == "[":
        return start
    try:
        value = json.loads(text)
    except JSONDecodeError as error:
        if error.msg == "Extra data":
            raise UserError(f"{path} holds several JSON values: if it is one object a line, name it .jsonl") from None
        raise UserError(
            f"{path} line {error.lineno}, column {error.colno}: broken JSON: {error.msg}; write a list of objects"
        ) from None
    if not isinstance(value, dict) or not isinstance(value.get("data"), list):
        keys = f"; its keys are {', '.join(value)}" if isinstance(value, dict) else ""
        raise UserError(f'{path} holds no rows: write a list of objects, or {{"data": [...]}}{keys}')
    return _data_list(text, start)


def _data_list(text: str, start: int) -> int:
    """The place where the list of the top-level key `data` opens, in JSON known to be whole."""
    decoder = JSONDecoder()
    at = _skip(text, start + 1)
    opening = -1
    while text[at] != "}":
        key, at = decoder.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)  # past the colon
        opening = at if key == "data" else opening
        _, at = decoder.raw_decode(text, at)
        at = _skip(text, at)
        at = _skip(text, at + 1) if text[at] == "," else at
    return opening
