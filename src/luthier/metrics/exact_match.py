"""Exact match: the share of answers that are one of their references, apart from case and white space."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from luthier.metrics.contract import Metric, ratio, scores


def normalise(text: str) -> str:
    """The text with its case folded, each run of white space one space, and none at the ends."""
    return " ".join(text.casefold().split())


def rows(answers: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Statistics (n, 2): 1 or 0, and the row itself."""
    pairs = zip(answers, references, strict=True)
    return scores([float(normalise(answer) in map(normalise, accepted)) for answer, accepted in pairs])


EXACT_MATCH = Metric("exact_match", "Exact match", True, "answers", rows, ratio)
