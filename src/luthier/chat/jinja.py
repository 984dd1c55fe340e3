"""Conversations through the tokenizer's own chat template.

The input is the template's text of the messages before the answer, with its generation prompt, tokenized whole: the
very ids that a server gives the model. The answer is what the template writes after that, up to and with the token
that ends a turn, tokenized as its continuation. That token is the stop token, whatever `eos_token` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

from jinja2 import TemplateError

from luthier.chat.encoding import Encoder
from luthier.chat.parts import Parts
from luthier.core.errors import UserError
from luthier.core.records import Message

QUESTION, ANSWER = Message("user", "Quo vadis?"), Message("assistant", "Romam eo.")


class ChatTemplate:
    """Renders messages with the tokenizer's template; refuses templates that cannot be trained with.

    `earlier`: whether the answers before the last are told apart, which needs a template that leaves them unchanged.
    """

    kind = "chat"

    def __init__(self, encoder: Encoder, system: str | None = None, earlier: bool = False) -> None:
        self.encoder = encoder
        self.earlier = earlier
        self.source: str = encoder.tokenizer.get_chat_template()
        opening = () if system is None else (Message("system", system),)
        asked = self._text((*opening, QUESTION), answering=True)
        answered = self._text((*opening, QUESTION, ANSWER))
        _, found, ending = self._continuation(asked, answered).rpartition(ANSWER.content)
        if not found:
            raise UserError("the chat template leaves the assistant's answer out: set data.chat: false")
        self.end, self.tail = self._split_ending(ending)
        self.stops = tuple(dict.fromkeys((self._stop(), encoder.stop)))
        ids = self._ids(asked)
        self.bos = tuple(ids[:1]) if ids[:1] == [encoder.tokenizer.bos_token_id] else ()

    def describe(self) -> dict[str, Any]:
        """What shapes the ids beside the tokenizer itself."""
        return {"chat_template": sha256(self.source.encode()).hexdigest()}

    def prompted(self, prompt: str, completion: str) -> Parts:
        """A prompt and its answer as a conversation of two turns."""
        return self.conversation((Message("user", prompt), Message("assistant", completion)))

    def conversation(self, messages: Sequence[Message]) -> Parts:
        """A conversation that ends with the assistant's turn."""
        asked = self._text(messages[:-1], answering=True)
        said = self._answer(asked, messages)
        ids = self._ids(asked)
        return Parts(ids, self._spoken(asked, messages) if self.earlier else [False] * len(ids), said)

    def _answer(self, asked: str, messages: Sequence[Message]) -> list[int]:
        text = self._continuation(asked, self._text(messages))
        ids = self.encoder.go_on(text.removesuffix(self.tail))
        return ids if ids[-1:] == [self.stops[0]] else [*ids, self.stops[0]]

    def _spoken(self, asked: str, messages: Sequence[Message]) -> list[bool]:
        """Which tokens of the input lie in answers before the last, with the tokens that end them."""
        spans: list[tuple[int, int]] = []
        for i, message in enumerate(messages[:-1]):
            if message.role == "assistant":
                begin = self._text(messages[:i], answering=True)
                end = self._text(messages[: i + 1]).removesuffix(self.tail)
                self._continuation(begin, asked)
                self._continuation(end, asked)
                spans.append((len(begin), len(end)))
        encoded = self.encoder.tokenizer(asked, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [any(a <= start < b for a, b in spans) for start, _ in encoded["offset_mapping"]]

    def _text(self, messages: Sequence[Message], answering: bool = False) -> str:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            text = self.encoder.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=answering)
        except TemplateError as error:
            roles = ", ".join(message.role for message in messages)
            raise UserError(
                f"the chat template refuses the roles {roles} ({error}): change them, or set data.chat: false"
            ) from None
        assert isinstance(text, str)
        for message in messages:
            if message.role == "system" and message.content.strip() not in text:
                raise UserError("the chat template drops the system message: put it into the prompt instead")
        return text

    def _ids(self, text: str) -> list[int]:
        return self.encoder.start(text)

    def _continuation(self, before: str, after: str) -> str:
        if not after.startswith(before):
            raise UserError(
                "the chat template writes a prompt in another way once it is answered, so that training would not "
                "match inference: set train_on: answer or data.chat: false, or mend the template"
            )
        return after[len(before) :]

    def _split_ending(self, ending: str) -> tuple[str, str]:
        """What follows an answer, cut behind its first special token; without one, nothing of it is kept."""
        tokens = self.encoder.tokenizer.added_tokens_decoder.values()
        found = [
            (ending.index(token.content), token.content)
            for token in tokens
            if token.special and token.content in ending
        ]
        if not found:
            return "", ending
        at, content = min(found)
        return ending[: at + len(content)], ending[at + len(content) :]

    def _stop(self) -> int:
        return self.encoder.go_on(self.end)[-1] if self.end else self.encoder.stop
