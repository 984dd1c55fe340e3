"""What is asked of the engine and what it gives: requests, pieces of answers, and its refusals."""

from __future__ import annotations

from dataclasses import dataclass

from luthier.core.errors import UserError

STOP, LENGTH, CANCELLED = "stop", "length", "cancelled"  # why an answer ended
MOST_STOPS, LONGEST_STOP = 16, 256  # stop strings of a request, and characters of each


class Busy(RuntimeError):
    """As many requests wait as may: ask again later."""


class Closed(RuntimeError):
    """The engine takes no more requests."""


class Failed(RuntimeError):
    """The answer could not be finished: the model's step failed, as when memory ran out."""


@dataclass(frozen=True)
class Sampling:
    """How an answer is drawn; UserError for a value out of range.

    As in transformers, the repetition penalty comes first, then the temperature, then top-k, then top-p. The same
    seed gives the same answer to the same request, whatever else is answered at the same time.
    """

    max_new_tokens: int
    temperature: float = 0.0  # 0: always the most probable token
    top_k: int | None = None
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        wrong = [
            (self.max_new_tokens < 1, f"max_new_tokens = {self.max_new_tokens}: write at least 1"),
            (not 0 <= self.temperature <= 100, f"temperature = {self.temperature}: write 0 (greedy) to 100"),
            (self.top_k is not None and self.top_k < 1, f"top_k = {self.top_k}: write at least 1, or leave it out"),
            (not 0 < self.top_p <= 1, f"top_p = {self.top_p}: write a share above 0, at most 1"),
            (
                not 0.01 <= self.repetition_penalty <= 100,
                f"repetition_penalty = {self.repetition_penalty}: write 1 (none) or a little more",
            ),
            (
                self.seed is not None and not -(2**63) <= self.seed < 2**63,
                f"seed = {self.seed}: write a whole number of at most 64 bits",
            ),
            (len(self.stop) > MOST_STOPS, f"stop has {len(self.stop)} texts: write at most {MOST_STOPS}"),
            (
                not all(0 < len(text) <= LONGEST_STOP for text in self.stop),
                f"stop: each text has 1 to {LONGEST_STOP} characters",
            ),
        ]
        for is_wrong, sentence in wrong:
            if is_wrong:
                raise UserError(sentence)


@dataclass(frozen=True)
class Request:
    """A prompt in token ids, how to answer it, and the name of the model that shall; None: the base itself."""

    prompt: tuple[int, ...]
    sampling: Sampling
    adapter: str | None = None


@dataclass(frozen=True)
class Piece:
    """Some more of an answer: its text, how many new tokens it holds, and on the last piece why it ended.

    A stop token is neither text nor counted.
    """

    text: str
    tokens: int
    finish: str | None = None
