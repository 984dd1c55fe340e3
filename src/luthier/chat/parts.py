"""What a renderer gives: the ids of the input, which of them carry a loss, and the ids of the answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from luthier.core.records import Message

Tools = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Parts:
    """One record in ids: `given` (P,), `trained` (P,) where that has a loss, `answer` (A,) with its stop token."""

    given: list[int]
    trained: list[bool]
    answer: list[int]


class Renderer(Protocol):
    """A way to write prompts and conversations: plain text, or the tokenizer's chat template."""

    kind: str
    stops: tuple[int, ...]  # the first is the one that training puts after an answer
    bos: tuple[int, ...]

    def prompted(self, prompt: str, completion: str) -> Parts: ...

    def conversation(self, messages: Sequence[Message], tools: Tools = ()) -> Parts: ...

    def describe(self) -> dict[str, Any]: ...


def is_trained(train_on: str, answer: Message | None) -> bool:
    """Whether a part of the input carries a loss: an earlier answer, or (None) anything else that is given."""
    if answer is None:
        return train_on == "all"
    return train_on != "answer" and answer.weight != 0
