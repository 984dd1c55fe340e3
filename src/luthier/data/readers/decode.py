"""Bytes to lines of text: gzip, UTF-8 (with or without a mark), and errors that say what the file really is."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from luthier.core.errors import UserError

HEAD = 4096  # bytes looked at to recognise UTF-16
MARK = b"\xef\xbb\xbf"  # some programs put it before UTF-8


def lines(path: Path) -> Iterator[str]:
    """The file's lines with their ends, decoded as UTF-8 while they are read.

    Raises UserError for a file that is empty, not readable, damaged gzip, or in another encoding.
    """
    offset = 0
    for number, line in enumerate(_raw_lines(path), 1):
        start = offset
        offset += len(line)
        if number == 1:
            _refuse_wide(path, line)
            line = line.removeprefix(MARK)
            start = offset - len(line)
        try:
            yield line.decode()
        except UnicodeDecodeError as error:
            raise UserError(_not_utf8(path, number, start + error.start, line[error.start])) from None
    if offset == 0:
        raise UserError(f"{path} is empty: give a file with at least one row")


def _raw_lines(path: Path) -> Iterator[bytes]:
    try:
        with _open(path) as file:
            yield from file
    except PermissionError:
        raise UserError(f"{path} may not be read: give yourself permission (chmod u+r)") from None
    except gzip.BadGzipFile:
        raise UserError(f"{path} ends in .gz but is not gzip: rename it, or compress it with gzip") from None
    except (EOFError, zlib.error):
        raise UserError(f"{path} is damaged gzip (cut short or altered): copy or download it again") from None


def _open(path: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb")


def _refuse_wide(path: Path, line: bytes) -> None:
    """Refuse UTF-16 and binary files, which would decode as UTF-8 full of NUL characters or fail without a hint."""
    head = line[:HEAD]
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path} row 1, byte 0: UTF-16, not UTF-8; {_convert(path, 'UTF-16')}")
    if b"\0" in head:
        byte = head.index(b"\0")
        wide = head[byte::2].count(0) > len(head) // 4
        name = ("UTF-16LE" if byte % 2 else "UTF-16BE") if wide else ""
        advice = f"it looks like {name}; {_convert(path, name)}" if name else "it is not text: give a text file"
        raise UserError(f"{path} row 1, byte {byte}: a NUL byte; {advice}")


def _not_utf8(path: Path, row: int, byte: int, value: int) -> str:
    guess = "WINDOWS-1252" if 0x80 <= value <= 0x9F else "ISO-8859-1"
    return (
        f"{path} row {row}, byte {byte} (0x{value:02X}): not UTF-8; it looks like {guess} (latin-1); "
        f"{_convert(path, guess)}"
    )


def _convert(path: Path, encoding: str) -> str:
    name = path.name.removesuffix(".gz")
    return f"save it as UTF-8: iconv -f {encoding} -t UTF-8 {name} > utf8-{name}"
