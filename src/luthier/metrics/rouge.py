"""ROUGE-1, ROUGE-2 and ROUGE-L (Lin 2004): overlap of n-grams, and the longest common subsequence, as F-measure.

The same numbers as the rouge_score package (0.1.2, no stemming): words are runs of a-z and 0-9 in the lower-cased
text, so that text in other scripts has no words and scores 0. Of several references the best one counts, row by
row and metric by metric.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from luthier.metrics.contract import Metric, ratio, scores

WORD = re.compile(r"[a-z0-9]+")


def words(text: str) -> list[str]:
    """The text's words in lower case."""
    return WORD.findall(text.lower())


def common_ngrams(n: int, answer: list[str], reference: list[str]) -> float:
    """F-measure of the n-grams that both have, each counted as often as it occurs in both."""
    ours, theirs = (Counter(zip(*(text[i:] for i in range(n)), strict=False)) for text in (answer, reference))
    return f_measure((ours & theirs).total(), ours.total(), theirs.total())


def common_subsequence(answer: list[str], reference: list[str]) -> float:
    """F-measure of the longest common subsequence."""
    return f_measure(longest_common(answer, reference), len(answer), len(reference))


def longest_common(a: Sequence[str], b: Sequence[str]) -> int:
    """Length of the longest common subsequence, a whole row of the table at a time.

    Bit i of `row` is 0 where a[i] lengthens the subsequence (Hyyrö 2004, "Bit-parallel LCS-length computation
    revisited").
    """
    places: dict[str, int] = {}
    for i, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        matches = row & places.get(word, 0)
        row = ((row + matches) | (row - matches)) & full
    return len(a) - row.bit_count()


def f_measure(common: int, ours: int, theirs: int) -> float:
    """Harmonic mean of precision common/ours and recall common/theirs; 0 when nothing is in common."""
    return 2 * common / (ours + theirs) if common else 0.0


def rows(
    overlap: Callable[[list[str], list[str]], float], answers: Sequence[str], references: Sequence[Sequence[str]]
) -> np.ndarray:
    """Statistics (n, 2): the best reference's overlap, and the row itself."""
    best = []
    for answer, accepted in zip(answers, references, strict=True):
        said = words(answer)
        best.append(max(overlap(said, words(reference)) for reference in accepted))
    return scores(best)


ROUGE1 = Metric("rouge1", "ROUGE-1", True, "answers", partial(rows, partial(common_ngrams, 1)), ratio)
ROUGE2 = Metric("rouge2", "ROUGE-2", True, "answers", partial(rows, partial(common_ngrams, 2)), ratio)
ROUGEL = Metric("rougeL", "ROUGE-L", True, "answers", partial(rows, common_subsequence), ratio)
