"""Language modelling of running text: next token for decoder-only models, span corruption for encoder-decoders.

Span corruption (Raffel et al. 2020, "Exploring the limits of transfer learning", section 3.1.4): spans of on average
`span` tokens, together `density` of the text, are each replaced by one sentinel; the decoder says each sentinel
followed by the tokens it stands for. Spans are drawn anew each time an example is drawn.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from luthier.core.errors import UserError
from luthier.core.shards import Example
from luthier.objectives.contract import Objective, Vocabulary
from luthier.objectives.tokens import token_counts, token_loss


class TextConfig(BaseModel):
    """Options of span corruption (encoder-decoders)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    density: float = Field(0.15, gt=0, lt=1)
    """Share of the tokens that is hidden."""
    span: float = Field(3.0, ge=1)
    """Mean length of a hidden span in tokens."""


def corrupt(example: Example, config: TextConfig, vocabulary: Vocabulary, rng: np.random.Generator) -> Example:
    """The example with spans of its input moved into the labels; for decoder-only models, every token labelled."""
    if not vocabulary.encoder_decoder:
        return replace(example, labels=example.input_ids)
    if len(example.labels):
        raise UserError("objective text on an encoder-decoder hides spans of running text: set data.layout to text")
    if len(vocabulary.sentinels) < 2:
        raise UserError(
            "objective text on an encoder-decoder needs a tokenizer with <extra_id_0>, <extra_id_1>, ...: add them "
            "with model.add_tokens, or choose a T5"
        )
    tokens = example.input_ids
    if len(tokens) and tokens[-1] == vocabulary.stop:
        tokens = tokens[:-1]
    hidden = noise_mask(len(tokens), config, len(vocabulary.sentinels) - 1, rng)
    stop = np.array([vocabulary.stop])
    visible, spans = split_spans(tokens, hidden, np.asarray(vocabulary.sentinels))
    return Example(np.concatenate([visible, stop]), np.concatenate([spans, stop]), example.row)


def noise_mask(length: int, config: TextConfig, most_spans: int, rng: np.random.Generator) -> np.ndarray:
    """Which of `length` tokens are hidden (length,), each equally often.

    Visible and hidden segments of random lengths alternate; the whole is then turned by a random offset, because
    otherwise the first token would never be hidden and the last one always.
    """
    hidden = min(max(round(length * config.density), 1), length - 1)
    if hidden < 1:
        return np.zeros(length, dtype=bool)
    spans = min(max(round(hidden / config.span), 1), most_spans, length - hidden)
    visible = _partition(length - hidden, spans, rng)
    noise = _partition(hidden, spans, rng)
    lengths = np.stack([visible, noise], axis=1).ravel()
    mask = np.repeat(np.arange(2 * spans) % 2 == 1, lengths)
    return np.roll(mask, rng.integers(length))


def _partition(total: int, parts: int, rng: np.random.Generator) -> np.ndarray:
    """`total` as `parts` positive integers, every such partition equally likely."""
    cuts = np.sort(rng.choice(total - 1, parts - 1, replace=False)) + 1
    return np.diff(np.concatenate([[0], cuts, [total]]))


def split_spans(tokens: np.ndarray, hidden: np.ndarray, sentinels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The text with each hidden run replaced by the next sentinel, and each sentinel followed by what it hides."""
    first = hidden & ~np.concatenate([[False], hidden[:-1]])
    used = sentinels[: first.sum()]
    visible = tokens.copy()
    visible[first] = used
    return visible[first | ~hidden], np.insert(tokens[hidden], np.flatnonzero(first[hidden]), used)


TEXT = Objective(config=TextConfig, counts=token_counts, loss=token_loss, example=corrupt)
