"""Records to token ids that fit the model's context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from luthier.chat.template import Template
from luthier.core.records import Record, Text
from luthier.core.shards import IGNORED, Example


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
        if max(len(example.input_ids), len(example.labels)) <= self.context:
            return Rendered((example,))
        if isinstance(record, Text):
            return Rendered(tuple(self._cut(example)))
        shorter = self.template.truncate(record, self.context) if self.too_long == "truncate" else None
        return Rendered((shorter,), truncated=True) if shorter is not None else Rendered(())

    def _cut(self, example: Example) -> list[Example]:
        """Consecutive pieces, as even as possible, each behind the tokens that every text begins with."""
        begin = np.asarray(self.template.encoder.before, dtype=np.int64)
        body = example.input_ids[len(begin) :]
        parts = np.array_split(body, -(-len(body) // (self.context - len(begin))))
        return [self._piece(np.concatenate([begin, part]), len(begin)) for part in parts]

    def _piece(self, ids: np.ndarray, begin: int) -> Example:
        labels = np.zeros(0, dtype=np.int64)
        if not self.template.encoder_decoder:
            labels = np.where(np.arange(len(ids)) < max(begin, 1), IGNORED, ids)
        return Example(ids, labels)
