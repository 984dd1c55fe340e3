"""The chooser's bits, by hand, and its distributions."""

from math import isclose, log2
from random import Random

import pytest

from luthier.data.builtin.choices import Choices


def test_bits_by_hand() -> None:
    choices = Choices(Random(0))
    choices.pick("abcdefgh")  # one of 8: 3 bits
    assert choices.bits == 3
    choices.number(1, 4)  # one of 4: 2 bits
    assert choices.bits == 5
    choices.sample("abcd", 2)  # 4 * 3 ordered pairs: log2 12
    assert isclose(choices.bits, 5 + log2(12))


@pytest.mark.parametrize("p", [0.25, 0.5, 0.9])
def test_bits_of_maybe_depend_on_the_answer(p: float) -> None:
    choices = Choices(Random(1))
    for _ in range(50):
        before = choices.bits
        expected = -log2(p) if choices.maybe(p) else -log2(1 - p)
        assert isclose(choices.bits - before, expected)


def test_bits_of_weighted_by_hand() -> None:
    # Weights 1 : 3 give probabilities 1/4 and 3/4: 2 bits and log2(4/3) = 0.415 bits.
    choices = Choices(Random(2))
    expected = {"rare": 2.0, "common": log2(4 / 3)}
    count = dict.fromkeys(expected, 0)
    for _ in range(4000):
        before = choices.bits
        drawn = choices.weighted({"rare": 1, "common": 3})
        assert isclose(choices.bits - before, expected[drawn], abs_tol=1e-9)
        count[drawn] += 1
    # Standard deviation of a share of 1/4 over 4000 draws: sqrt(3/16/4000) = 0.0068; four of them.
    assert abs(count["rare"] / 4000 - 0.25) < 0.028


def test_number_and_pick_are_uniform_and_inclusive() -> None:
    choices = Choices(Random(3))
    drawn = [choices.number(2, 5) for _ in range(4000)]
    for value in (2, 3, 4, 5):
        assert abs(drawn.count(value) / 4000 - 0.25) < 0.028
    assert set(drawn) == {2, 3, 4, 5}
    assert choices.pick(range(7, 8)) == 7


def test_sample_draws_without_replacement() -> None:
    choices = Choices(Random(4))
    for _ in range(100):
        drawn = choices.sample(range(6), 6)
        assert sorted(drawn) == list(range(6))
