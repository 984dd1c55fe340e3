"""Near twins against all pairs compared."""

from __future__ import annotations

import random

import pytest

from luthier.plan.near import jaccard, shingles, similar


def test_shingles_are_sets_of_five_characters_without_case_or_spacing():
    assert len(shingles("abcdefg")) == 3
    assert (shingles("The  cat\nsat") == shingles("the cat sat")).all()
    assert len(shingles("aaaaaaaaaa")) == 1
    assert len(shingles("ab")) == 1


def test_the_similarity_by_hand():
    """abcde bcdef cdefg against bcdef cdefg defgh: two of four."""
    assert jaccard(shingles("abcdefg"), shingles("bcdefgh")) == pytest.approx(2 / 4)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_exactly_the_pairs_that_a_comparison_of_all_finds(threshold):
    rng = random.Random(0)
    words = ["red", "green", "blue", "house", "train", "river", "stone", "cloud"]
    base = [" ".join(rng.choices(words, k=25)) for _ in range(40)]
    edited = []
    for text in base:
        own = text.split()
        for _ in range(rng.randrange(6)):
            own[rng.randrange(len(own))] = rng.choice(words)
        edited.append(" ".join(own))
    every = {
        (i, j)
        for i, left in enumerate(edited)
        for j, right in enumerate(base)
        if jaccard(shingles(left), shingles(right)) >= threshold
    }
    assert {(pair.left, pair.right) for pair in similar(edited, base, threshold)} == every
    assert len(every) > 3


def test_nothing_is_like_nothing():
    assert similar([], ["a"], 0.8) == similar(["a"], [], 0.8) == []
