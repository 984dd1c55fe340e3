"""The one source of randomness of the generator: every draw is counted in bits."""

from bisect import bisect
from collections.abc import Sequence
from itertools import accumulate
from math import log2
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Draws from a seeded stream and adds up -log2 p of everything drawn (`bits`).

    Only `Random.random` is used: its sequence for a seed is guaranteed not to change between Python versions.
    """

    def __init__(self, rng: Random) -> None:
        self._random = rng.random
        self.bits = 0.0

    def number(self, low: int, high: int) -> int:
        """A whole number from low to high, both included, all equally likely."""
        count = high - low + 1
        self.bits += log2(count)
        return low + int(self._random() * count)

    def pick(self, options: Sequence[T]) -> T:
        """One of the options, all equally likely."""
        count = len(options)
        self.bits += log2(count)
        return options[int(self._random() * count)]

    def maybe(self, p: float = 0.5) -> bool:
        """True with probability p (0 < p < 1)."""
        true = self._random() < p
        self.bits -= log2(p if true else 1 - p)
        return true

    def weighted(self, options: dict[T, float]) -> T:
        """One key, with a probability in proportion to its (positive) value."""
        names, ends = list(options), list(accumulate(options.values()))
        drawn = names[bisect(ends[:-1], self._random() * ends[-1])]
        self.bits -= log2(options[drawn] / ends[-1])
        return drawn

    def sample(self, options: Sequence[T], k: int) -> list[T]:
        """k different options in random order."""
        left = list(options)
        return [left.pop(self.number(0, len(left) - 1)) for _ in range(k)]
