"""Records of .txt files, each a row with the one column `text`.

Records end at lines `<|endoftext|>` where the file has such lines; else at blank lines where it has blank lines
(a record is a paragraph); else at the end of each line. Which of the three it is, is said aloud.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from luthier.core.events import emit
from luthier.data.readers.decode import lines
from luthier.data.readers.row import Found

END_OF_TEXT = "<|endoftext|>"


def read_text(path: Path) -> Iterator[Found]:
    """The file's records, counted from 1; spaces around a record are not part of it."""
    separator = _separator(path)
    what = {"": "a paragraph (blank lines between)", END_OF_TEXT: f"what stands between {END_OF_TEXT} lines"}
    emit("data.text", f"{path}: a record is {what.get(separator or '', '') if separator is not None else 'a line'}")
    number = 0
    for block in _blocks(path, separator):
        text = "".join(block).strip()
        if text:
            number += 1
            yield number, {"text": text}


def _separator(path: Path) -> str | None:
    """What a separating line holds; None where every line is a record."""
    blank = seen_text = False
    pending_blank = False
    for line in lines(path):
        stripped = line.strip()
        if stripped == END_OF_TEXT:
            return END_OF_TEXT
        pending_blank |= not stripped and seen_text
        seen_text |= bool(stripped)
        blank |= pending_blank and bool(stripped)
    return "" if blank else None


def _blocks(path: Path, separator: str | None) -> Iterator[list[str]]:
    block: list[str] = []
    for line in lines(path):
        if separator is None:
            yield [line]
        elif line.strip() == separator:
            yield block
            block = []
        else:
            block.append(line)
    yield block
