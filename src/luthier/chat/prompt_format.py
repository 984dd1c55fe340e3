"""The prompt template of a recipe: text with `{column}` in it, and nothing cleverer."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from luthier.core.errors import UserError, did_you_mean

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")
_BRACES = {"{{": "{", "}}": "}"}


@dataclass(frozen=True)
class PromptFormat:
    """A parsed template: plain text and column names in turn; `{{` and `}}` stand for braces."""

    pieces: tuple[tuple[str, bool], ...]  # text, or a column's name and True

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns it names, in their order."""
        return tuple(dict.fromkeys(text for text, is_column in self.pieces if is_column))

    def fill(self, values: Mapping[str, str]) -> str:
        """The prompt with the columns' values put in."""
        return "".join(values[text] if is_column else text for text, is_column in self.pieces)


def parse(template: str) -> PromptFormat:
    """Read a template; UserError for a brace that neither opens nor closes a column's name."""
    pieces: list[tuple[str, bool]] = []
    for match in _PIECE.finditer(template):
        text = match[0]
        if text in ("{", "}"):
            raise UserError(
                f"data.prompt: a single '{text}' at character {match.start() + 1}: write {{column}} for a column, "
                f"'{text * 2}' for the brace itself"
            )
        name = match[1]
        pieces.append((name.strip(), True) if name is not None else (_BRACES.get(text, text), False))
    return PromptFormat(tuple(pieces))


def check(format: PromptFormat, known: Collection[str]) -> None:
    """UserError for a column that the rows do not have."""
    for name in format.columns:
        if name not in known:
            raise UserError(f"data.prompt: the rows have no column '{name}': {did_you_mean(name, known)}")
