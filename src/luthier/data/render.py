"""Records to token ids that fit the model's context."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from luthier.chat.template import Template
from luthier.core.records import Record, Text
from luthier.core.shards import Example


@dataclass(frozen=True)
class Rendered:
    """A record's examples (several where a long text was cut, none where it is too long), and what was done."""

    examples: tuple[Example, ...]
    truncated: bool = False


@dataclass(frozen=True)
class Renderer:
    """Renders records for one model: `context` tokens for its input, and as many for an encoder-decoder's answer."""

    template: Template
    context: int
    too_long: Literal["remove", "truncate"]

    def __call__(self, record: Record) -> Rendered:
        """The record's examples, each within the context.

        A running text is cut into pieces, and nothing of it is lost. Any other record that is too long gives
        nothing, or its prompt is cut from the left; nothing too where the answer alone does not fit.
        """
        example = self.template.render(record)
        if self._fits(example):
            return Rendered((example,))
        if isinstance(record, Text):
            return Rendered(tuple(_cut(example, self.context)))
        if self.too_long == "truncate":
            shorter = self.template.truncate(example, self.context)
            return Rendered((shorter,), truncated=True) if shorter is not None else Rendered(())
        return Rendered(())

    def _fits(self, example: Example) -> bool:
        return max(len(example.input_ids), len(example.labels)) <= self.context


def _cut(example: Example, context: int) -> list[Example]:
    """Consecutive pieces of at most `context` tokens, as even as possible."""
    pieces = -(-len(example.input_ids) // context)
    parts = np.array_split(example.input_ids, pieces)
    labels = np.array_split(example.labels, pieces)  # empty for an encoder-decoder
    return [replace(example, input_ids=ids, labels=own) for ids, own in zip(parts, labels, strict=True)]
