"""Near-duplicates: everything reported is true, nearly everything true is reported."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from luthier.core.errors import UserError
from luthier.data.buckets import CROWD, Buckets, bands
from luthier.data.duplicates import Neighbours, firsts, jaccard, lasts, near_pairs, shingles
from luthier.data.signatures import HASHES, exact_key, signatures

SYLLABLES = ["ka", "lo", "mi", "ren", "sto", "vu", "pel", "tan", "gri", "osh", "dur", "wen"]


def sentence(rng: random.Random, words: int) -> list[str]:
    return ["".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(words)]


def planted(seed: int, originals: int) -> list[str]:
    """Texts of 12 to 100 words, each followed by copies with ever more words replaced."""
    rng = random.Random(seed)
    texts = []
    for _ in range(originals):
        words = sentence(rng, rng.choice([12, 25, 50, 100]))
        texts.append(" ".join(words))
        for share in (0.01, 0.03, 0.06, 0.1):
            for place in rng.sample(range(len(words)), max(1, round(share * len(words)))):
                words[place] = sentence(rng, 1)[0]
            texts.append(" ".join(words))
    rng.shuffle(texts)
    return texts


def index(texts: list[str], similarity: float) -> Neighbours:
    return Neighbours(signatures(texts), texts.__getitem__, similarity)


@pytest.mark.parametrize("similarity", [0.5, 0.8, 0.9])
def test_recall_and_precision_on_planted_edits(similarity):
    texts = planted(seed=1, originals=60)
    sets = [shingles(text) for text in texts]
    exact = np.array([[jaccard(a, b) for a in sets] for b in sets])
    earlier = np.tril(exact, k=-1)
    true = set(np.flatnonzero((earlier >= similarity).any(axis=1)))
    found = list(near_pairs(range(len(texts)), index(texts, similarity), keep_all=True))
    assert all(other < row and value == exact[row, other] >= similarity for row, other, value in found)
    assert len(true) > 30
    assert len(found) / len(true) >= 0.99


def test_without_keeping_all_what_stays_has_no_near_duplicates():
    texts = planted(seed=2, originals=40)
    gone = {row for row, _, _ in near_pairs(range(len(texts)), index(texts, 0.7), keep_all=False)}
    stays = [shingles(text) for row, text in enumerate(texts) if row not in gone]
    assert 0 < len(gone) < len(texts)
    assert max(jaccard(a, b) for i, a in enumerate(stays) for b in stays[:i]) < 0.7


def test_signatures_estimate_jaccard_without_bias():
    # The share of equal hashes is a mean of 128 coin flips with probability J: standard deviation below 0.0442.
    texts = planted(seed=3, originals=80)
    found = signatures(texts)
    order = range(0, len(texts) - 1)
    sets = [shingles(text) for text in texts]
    true = np.array([jaccard(sets[i], sets[j]) for i in order for j in (i + 1, (i * 7 + 3) % len(texts)) if i != j])
    estimate = np.array(
        [(found[i] == found[j]).mean() for i in order for j in (i + 1, (i * 7 + 3) % len(texts)) if i != j]
    )
    error = estimate - true
    assert abs(error.mean()) < 0.005
    assert (error**2).mean() ** 0.5 < 0.5 / HASHES**0.5


def test_signatures_do_not_depend_on_the_batch():
    texts = planted(seed=4, originals=10)
    assert (signatures(texts) == np.concatenate([signatures([text]) for text in texts])).all()


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.8, 0.95, 1.0])
def test_bands_miss_fewer_than_one_pair_in_a_thousand(similarity):
    count, width = bands(similarity)
    assert count * width <= HASHES
    assert (1 - similarity**width) ** count <= 1e-3


def test_shingles_of_short_texts_and_jaccard_by_hand():
    assert shingles("abc") == {"abc"} and shingles("") == {""}
    assert shingles("ABCDEF") == {"abcde", "bcdef"}
    assert jaccard(shingles("abcdef"), shingles("bcdefg")) == pytest.approx(1 / 3)
    texts = ["abc", "abd", "abc "]
    assert list(near_pairs(range(3), index(texts, 0.8), keep_all=True)) == [(2, 0, 1.0)]


def test_exact_keys_see_through_white_space_and_unicode_forms():
    assert exact_key("cafe\u0301  au\nlait ") == exact_key("caf\u00e9 au lait")
    assert exact_key("Case") != exact_key("case")


def test_a_similarity_that_nearly_everything_has_is_refused():
    with pytest.raises(UserError, match=r"data\.similarity = 0\.1: near-duplicates are looked for from 0\.3"):
        index(["a"], 0.1)


@given(st.lists(st.integers(0, 6), max_size=40), st.lists(st.integers(0, 6), max_size=40))
def test_copies_are_found_as_by_looking_at_every_one(numbers, others):
    keys, among = (np.array([bytes([n, 0]) * 8 for n in some], dtype="S16") for some in (numbers, others))
    assert firsts(keys).tolist() == [numbers.index(n) for n in numbers]
    last = {n: place for place, n in enumerate(others)}
    assert lasts(keys, among).tolist() == [last.get(n, -1) for n in numbers]


def test_of_a_crowd_only_the_first_are_compared_with():
    texts = [f"the same sentence again and again, but for the number at its end {i:04}" for i in range(CROWD + 40)]
    near = index(texts, 0.8)
    for row in range(len(texts) - 1):
        near.add(row)
    assert np.diff(Buckets(signatures(texts), 0.8).ends).max() == CROWD
    found = near.find(len(texts) - 1)
    assert found is not None and found[1] >= 0.8
    near.clear()
    assert near.find(len(texts) - 1) is None


def test_a_row_like_no_other_is_in_no_bucket():
    texts = [" ".join(sentence(random.Random(i), 30)) for i in range(50)]
    buckets = Buckets(signatures([*texts, texts[7]]), 0.8)
    count, _ = bands(0.8)
    assert [len(buckets.of(row)) for row in range(51)] == [count * (row in (7, 50)) for row in range(51)]
