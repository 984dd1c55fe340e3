"""Metrics equal the reference libraries and hand-made numbers, for the corpus and for any resample of it."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from luthier.core.errors import UserError
from luthier.core.files import read_jsonl
from luthier.metrics import METRICS
from luthier.metrics.rouge import longest_common

ROUGE = ("rouge1", "rouge2", "rougeL")
WORDS = st.lists(
    st.sampled_from(["a", "b", "c", "The", "don't", "1,000", "é", "ß", "東京", "İ", ".", "\n", "x2"]), max_size=14
)
TEXT = st.one_of(WORDS.map(" ".join), st.text(max_size=30))
ROWS = st.lists(st.tuples(TEXT, st.lists(TEXT, min_size=1, max_size=3)), min_size=1, max_size=6)


def corpus(name: str, answers, references) -> float:
    return METRICS[name].corpus(METRICS[name].rows(answers, references))


def reference_rouge(name: str, answers, references) -> float:
    scorer = RougeScorer([name], use_stemmer=False)
    each = [scorer.score_multi(list(r), a)[name].fmeasure for a, r in zip(answers, references, strict=True)]
    return sum(each) / len(each)


def reference_bleu(answers, references) -> float:
    most = max(map(len, references))
    streams = [[r[i] if i < len(r) else None for r in references] for i in range(most)]
    return sacrebleu.corpus_bleu(answers, streams).score


@pytest.fixture(scope="module")
def dialogsum(data_folder):
    """200 test rows: the dialogue's first two turns, a person's summary and the two others; two sets of answers."""
    found = read_jsonl(data_folder / "dialogsum" / "dialogsum.test.jsonl")[:200]
    lead = ["\n".join(row["dialogue"].splitlines()[:2]) for row in found]
    people = [row["summary1"] for row in found]
    return {"lead": lead, "people": people}, [(row["summary2"], row["summary3"]) for row in found]


@pytest.mark.data
@pytest.mark.parametrize("said", ["lead", "people"])
def test_equal_to_the_reference_libraries_on_dialogsum(dialogsum, said):
    answers, references = dialogsum[0][said], dialogsum[1]
    for name in ROUGE:
        assert corpus(name, answers, references) == pytest.approx(
            reference_rouge(name, answers, references), abs=1e-9
        )
    assert corpus("bleu", answers, references) == pytest.approx(reference_bleu(answers, references), abs=1e-9)


@pytest.mark.data
def test_bleu_of_resamples_is_the_librarys_bleu_of_the_resampled_rows(dialogsum):
    answers, references = dialogsum[0]["people"], dialogsum[1]
    statistics = METRICS["bleu"].rows(answers, references)
    drawn = np.random.default_rng(0).integers(0, 200, (5, 200))
    ours = METRICS["bleu"].value(statistics[drawn].sum(axis=1))
    for rows, score in zip(drawn, ours, strict=True):
        theirs = reference_bleu([answers[i] for i in rows], [references[i] for i in rows])
        assert score == pytest.approx(theirs, abs=1e-9)


@pytest.mark.data
def test_rouge_is_fast(dialogsum):
    """About 15 ms; the bound leaves room for a busy machine."""
    start = time.process_time()
    for name in ROUGE:
        METRICS[name].rows(dialogsum[0]["lead"], dialogsum[1])
    assert time.process_time() - start < 0.2


@settings(max_examples=150, deadline=None)
@given(ROWS)
def test_rouge_equals_rouge_score_on_any_text(rows):
    answers, references = [row[0] for row in rows], [tuple(row[1]) for row in rows]
    for name in ROUGE:
        assert corpus(name, answers, references) == pytest.approx(
            reference_rouge(name, answers, references), abs=1e-9
        )


@settings(max_examples=150, deadline=None)
@given(ROWS)
def test_bleu_equals_sacrebleu_on_any_text(rows):
    answers, references = [row[0] for row in rows], [tuple(row[1]) for row in rows]
    assert corpus("bleu", answers, references) == pytest.approx(reference_bleu(answers, references), abs=1e-9)


@settings(max_examples=150, deadline=None)
@given(st.text("abc", max_size=80), st.text("abc", max_size=80))
def test_longest_common_subsequence_equals_the_textbooks_table(a, b):
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            table[i][j] = table[i - 1][j - 1] + 1 if x == y else max(table[i - 1][j], table[i][j - 1])
    assert longest_common(a, b) == table[-1][-1]


def test_rouge_by_hand():
    """'the cat sat' and 'the cat was here': 2 of 3 and 4 words, 1 of 2 and 3 pairs, a subsequence of 2."""
    rows = (["The cat sat."], [("the cat was here",)])
    assert corpus("rouge1", *rows) == pytest.approx(2 * 2 / (3 + 4))
    assert corpus("rouge2", *rows) == pytest.approx(2 * 1 / (2 + 3))
    assert corpus("rougeL", *rows) == pytest.approx(2 * 2 / (3 + 4))
    crossed = (["b a"], [("a b",)])
    assert (corpus("rouge1", *crossed), corpus("rougeL", *crossed)) == (1.0, 0.5)
    assert corpus("rougeL", ["b a"], [("x y", "b a", "c")]) == 1.0


def test_bleu_by_hand():
    """Six words, five of them right; 3 of 5 pairs, 2 of 4 triples, 1 of 3 quadruples; a reference of eight words."""
    answer, reference = "a b c d e f", "a b c d x e y z"
    expected = 100 * math.exp(1 - 8 / 6) * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** 0.25
    assert corpus("bleu", [answer], [(reference,)]) == pytest.approx(expected)
    unmatched = 100 * (2 / 4 * (1 / 2) / 3 * (1 / 4) / 2 * (1 / 8) / 1) ** 0.25  # smoothed: 1/2, 1/4, 1/8 matches
    assert corpus("bleu", ["a x b y"], [("a z b z",)]) == pytest.approx(unmatched)
    assert corpus("bleu", ["", "x"], [("a b c d",), ("y",)]) == 0.0


def test_exact_match_ignores_case_and_white_space_only():
    answers = ["  Yes\n sir ", "STRASSE", "yes, sir", "b", ""]
    references = [("yes sir",), ("straße",), ("yes sir",), ("a", "B"), ("a",)]
    assert METRICS["exact_match"].rows(answers, references)[:, 0].tolist() == [1, 1, 0, 1, 0]
    assert corpus("exact_match", answers, references) == 3 / 5


def test_loss_and_perplexity_weigh_tokens_not_rows():
    """Nine tokens at ln 2 and one at ln 32: (9 + 5) / 10 bits."""
    nll, tokens = np.array([9 * math.log(2), math.log(32)]), np.array([9, 1])
    for name, expected in (("loss", 1.4 * math.log(2)), ("perplexity", 2**1.4)):
        metric = METRICS[name]
        assert metric.corpus(metric.rows(nll, tokens)) == pytest.approx(expected)
        assert not metric.higher_is_better and metric.needs == "losses"


@pytest.mark.parametrize("name", METRICS)
def test_each_entry_bears_its_name_and_values_stack(name):
    metric = METRICS[name]
    assert metric.name == name
    if metric.needs == "answers":
        statistics = metric.rows(["a b c d", "a"], [("a b c d e",), ("b",)])
    else:
        statistics = metric.rows(np.array([1.0, 2.0]), np.array([3, 4]))
    together = metric.value(np.stack([statistics.sum(axis=0), statistics[0]]))
    assert together.tolist() == [metric.corpus(statistics), metric.corpus(statistics[:1])]


def test_an_unknown_metric_is_refused():
    with pytest.raises(UserError, match="did you mean 'rougeL'"):
        METRICS["rougel"]
