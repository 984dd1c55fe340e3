"""BLEU (Papineni et al. 2002) of the whole corpus, 0 to 100: sacrebleu's, with its tokeniser 13a.

Counting is sacrebleu's own; the formula stands here as well because a bootstrap needs it for thousands of sums at
once. Exponential smoothing is that of sacrebleu: the j-th order without a match counts as 2^-j matches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from luthier.metrics.contract import Metric

ORDERS = 4


def rows(answers: Sequence[str], references: Sequence[Sequence[str]]) -> np.ndarray:
    """Statistics (n, 10): length, length of the closest reference, matches and n-grams of each order 1 to 4."""
    from sacrebleu.metrics.bleu import BLEU as Sacrebleu

    counter = Sacrebleu(effective_order=True)  # only its counts are read, which the setting leaves alone
    counted = [counter.sentence_score(a, list(accepted)) for a, accepted in zip(answers, references, strict=True)]
    return np.array([[s.sys_len, s.ref_len, *s.counts, *s.totals] for s in counted], dtype=float)


def value(sums: np.ndarray) -> np.ndarray:
    """BLEU (...) of summed statistics (..., 10)."""
    length, reference = sums[..., 0], sums[..., 1]
    matches, ngrams = sums[..., 2 : 2 + ORDERS], sums[..., 2 + ORDERS :]
    smoothed = np.where(matches > 0, matches, 0.5 ** np.cumsum(matches == 0, axis=-1))
    precisions = smoothed / np.maximum(ngrams, 1)
    brevity = np.minimum(1 - reference / np.maximum(length, 1), 0)
    score = 100 * np.exp(brevity + np.log(precisions).mean(axis=-1))
    return np.where((matches[..., 0] > 0) & (ngrams[..., -1] > 0), score, 0.0)


BLEU = Metric("bleu", "BLEU", True, "answers", rows, value)
