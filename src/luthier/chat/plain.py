"""Prompts and conversations as plain text, for models without a chat template.

A prompt and its answer stand on end: the prompt as it is, then the answer, then the end token. Where neither the
prompt ends nor the answer begins with white space, the answer gets one space before it. A conversation reads

    system message

    User: words
    Assistant: words<end>
    User: words
    Assistant: words<end>

where each answer is followed by the end token, so that a model learns to stop after any of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from luthier.chat.encoding import Encoder
from luthier.chat.parts import Parts, Tools, is_trained
from luthier.core.errors import UserError
from luthier.core.records import Message

NAMES = {"user": "User", "assistant": "Assistant"}


class Plain:
    """Renders messages as plain text; `encoder_decoder` models read the prompt apart from the answer."""

    kind = "plain"

    def __init__(self, encoder: Encoder, encoder_decoder: bool, train_on: str = "answer") -> None:
        self.encoder = encoder
        self.train_on = train_on
        self.encoder_decoder = encoder_decoder
        self.stops = (encoder.stop,)
        self.bos = encoder.before

    def describe(self) -> dict[str, Any]:
        """What shapes the ids beside the tokenizer itself."""
        return {"chat_template": None}

    def prompted(self, prompt: str, completion: str) -> Parts:
        """A prompt and its answer."""
        if self.encoder_decoder:
            return self._two_sided(prompt, completion)
        given = self.encoder.start(prompt)
        answer = self._answer(prompt, completion)
        ids = [*self.bos, *given]
        return Parts(ids, [is_trained(self.train_on, None)] * len(ids), answer)

    def conversation(self, messages: Sequence[Message], tools: Tools = ()) -> Parts:
        """A conversation that ends with the assistant's turn; UserError where it has tools."""
        if tools or any(message.calls or message.role == "tool" for message in messages):
            raise UserError(
                "plain text has no way to write tools, which the row has: take a model whose chat template writes "
                "them (and data.chat: true), or rows without tools"
            )
        if self.encoder_decoder:
            given = "".join(text if answer is None else f" {text}" for text, answer in _pieces(messages))
            return self._two_sided(given, messages[-1].content)
        ids, trained = list(self.bos), [is_trained(self.train_on, None)] * len(self.bos)
        before = ""
        for text, answer in _pieces(messages):
            if answer is not None:
                piece = self._answer(before, text)
            else:
                piece = self.encoder.go_on(text) if before else self.encoder.start(text)
            ids += piece
            trained += [is_trained(self.train_on, answer)] * len(piece)
            before = text
        return Parts(ids, trained, self._answer(before, messages[-1].content))

    def _answer(self, before: str, text: str) -> list[int]:
        if not before:
            return [*self.encoder.start(text), self.encoder.stop]
        joint = "" if not text or before[-1].isspace() or text[0].isspace() else " "
        return [*self.encoder.go_on(joint + text), self.encoder.stop]

    def _two_sided(self, prompt: str, completion: str) -> Parts:
        given = [*self.bos, *self.encoder.start(prompt), *self.encoder.after]
        end = self.encoder.after if self.encoder.stop in self.encoder.after else (self.encoder.stop,)
        return Parts(given, [False] * len(given), [*self.bos, *self.encoder.start(completion), *end])


def _pieces(messages: Sequence[Message]) -> Iterator[tuple[str, Message | None]]:
    """The text of all but the last message, cut where answers begin and end; an answer comes with its message."""
    text = ""
    for message in messages:
        if message.role == "system":
            text += f"{message.content}\n\n"
        elif message.role == "assistant":
            yield f"{text}{NAMES['assistant']}:", None
            if message is messages[-1]:
                return
            yield message.content, message
            text = "\n"
        else:
            text += f"{NAMES[message.role]}: {message.content}\n"
