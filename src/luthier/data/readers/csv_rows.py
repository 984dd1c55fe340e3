"""Rows of .csv files: the first line names the columns; commas, semicolons or tabs between them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from luthier.core.errors import UserError
from luthier.core.events import emit
from luthier.data.readers.decode import lines
from luthier.data.readers.row import Bad, Found

LARGEST_FIELD = 2**31 - 1  # the library's own limit of 128 KiB would cut off long texts


class _Lines:
    """The file's lines, and those read since the last row: what a bad row is quoted by."""

    def __init__(self, path: Path) -> None:
        self._lines = lines(path)
        self.number = 0
        self.taken: list[str] = []

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self.number += 1
            self.taken.append(line)
            yield line

    def quote(self) -> str:
        """The lines since the last call."""
        text = "".join(self.taken).rstrip("\r\n")
        self.taken.clear()
        return text


def read_csv(path: Path) -> Iterator[Found]:
    """One record a row, counted from 1 after the header."""
    csv.field_size_limit(LARGEST_FIELD)
    source = _Lines(path)
    feed = iter(source)
    header_line = next(feed)
    delimiter = _delimiter(path, header_line)
    header = _header(path, header_line, delimiter)
    source.quote()
    rows = csv.reader(feed, delimiter=delimiter, strict=True)
    number = 0
    while True:
        begins = source.number + 1
        try:
            fields = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise UserError(
                    f"{path} row {number + 1} (line {begins}): a quote is opened and never closed; close it, and "
                    'write a quote inside a field twice ("")'
                ) from None
            number += 1
            yield number, Bad(f"broken CSV on line {source.number}: {error}", source.quote())
            continue
        raw = source.quote()
        if fields:  # an empty line is no row
            number += 1
            yield number, _row(fields, header, raw, begins)


def _row(fields: list[str], header: list[str], raw: str, line: int) -> dict[str, str] | Bad:
    if len(fields) == len(header):
        return dict(zip(header, fields, strict=True))
    few = "too few" if len(fields) < len(header) else "too many"
    hint = "" if len(fields) < len(header) else " (put a field that holds the separator in quotes)"
    return Bad(f"{few} fields on line {line}: {len(fields)} where the header has {len(header)}{hint}", raw)


def _delimiter(path: Path, header: str) -> str:
    delimiter = max(",;\t", key=header.count)
    if delimiter != ",":
        emit("data.csv", f"{path}: columns are separated by {'tabs' if delimiter == chr(9) else 'semicolons'}")
    return delimiter


def _header(path: Path, line: str, delimiter: str) -> list[str]:
    try:
        names = [name.strip() for name in next(csv.reader([line], delimiter=delimiter, strict=True), [])]
    except csv.Error as error:
        raise UserError(f"{path} line 1: the header is broken CSV: {error}") from None
    if not any(names):
        raise UserError(f"{path} line 1 is blank: write the names of the columns there")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise UserError(f"{path} line 1 names the column '{twice[0]}' twice: give each column its own name")
    return names
