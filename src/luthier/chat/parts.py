"""What a renderer gives: the ids of the input, which of them earlier answers are, and the ids of the answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from luthier.core.records import Message


@dataclass(frozen=True)
class Parts:
    """One record in ids: `given` (P,), `spoken` (P,) true in earlier answers, `answer` (A,) with its stop token."""

    given: list[int]
    spoken: list[bool]
    answer: list[int]


class Renderer(Protocol):
    """A way to write prompts and conversations: plain text, or the tokenizer's chat template."""

    kind: str
    stops: tuple[int, ...]  # the first is the one that training puts after an answer
    bos: tuple[int, ...]

    def prompted(self, prompt: str, completion: str) -> Parts: ...

    def conversation(self, messages: Sequence[Message]) -> Parts: ...

    def describe(self) -> dict[str, Any]: ...
