"""Whether a model's output layer is its table of embeddings, or a table of its own beside it.

The weights say it, the configuration may not: transformers 5 writes `tie_word_embeddings: true` into every T5's,
though FLAN-T5, T5 v1.1 and mT5 have two tables. It then loads both, with advice that no such model can follow, and
puts the embeddings in place of the output layer as soon as the vocabulary grows.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from transformers import PreTrainedModel

LOADER = "transformers.modeling_utils"
ADVICE = "we will NOT tie them"


@contextmanager
def without_advice() -> Iterator[None]:
    """Load weights without transformers' advice on two tables that it expected to be one."""
    loader = logging.getLogger(LOADER)
    loader.addFilter(_no_advice)
    try:
        yield
    finally:
        loader.removeFilter(_no_advice)


def _no_advice(record: logging.LogRecord) -> bool:
    return ADVICE not in record.getMessage()


@contextmanager
def as_they_are(model: PreTrainedModel) -> Iterator[None]:
    """Change the size of the tables: one stays one, and two stay two whatever the configuration says."""
    tables: Any = (model.get_input_embeddings(), model.get_output_embeddings())
    before = model.config.tie_word_embeddings
    model.config.tie_word_embeddings = tables[0].weight is tables[1].weight
    try:
        yield
    finally:
        model.config.tie_word_embeddings = before
