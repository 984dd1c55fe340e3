"""Conversations through the tokenizer's own chat template.

The input is the template's text of the messages before the answer, with its generation prompt, tokenized whole: the
very ids that a server gives the model. The answer is what the template writes after that, up to and with the token
that ends a turn, tokenized as its continuation. That token is the stop token, whatever `eos_token` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any

from jinja2 import TemplateError

from luthier.chat.encoding import Encoder
from luthier.chat.parts import Parts, Tools, is_trained
from luthier.chat.toolforms import CallForm, call_form, is_written, writes_tools
from luthier.core.errors import UserError
from luthier.core.records import Message

DROPPED = {  # what templates are known to leave out without a word, and what to do
    "system": ("the system message", "put it into the prompt instead"),
    "tool": ("the tool message", "take a model whose template writes it"),
    "assistant": ("what a message says beside its calls", "write the call in a message of its own"),
}
QUESTION, ANSWER = Message("user", "Quo vadis?"), Message("assistant", "Romam eo.")


class ChatTemplate:
    """Renders messages with the tokenizer's template; refuses templates that cannot be trained with.

    `train_on` as in the recipe: where the answers before the last are told apart from the rest, the template must
    leave them unchanged.
    """

    kind = "chat"

    def __init__(self, encoder: Encoder, system: str | None = None, train_on: str = "answer") -> None:
        self.encoder = encoder
        self.train_on = train_on
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

    def conversation(self, messages: Sequence[Message], tools: Tools = ()) -> Parts:
        """A conversation that ends with the assistant's turn; UserError where the template cannot write its tools."""
        asked = self._text(messages[:-1], tools, answering=True)
        said = self._answer(asked, self._text(messages, tools))
        ids = self._ids(asked)
        usual = is_trained(self.train_on, None)
        spans = [
            self._span(asked, messages[: i + 1], tools)
            for i, message in enumerate(messages[:-1])
            if message.role == "assistant" and is_trained(self.train_on, message) != usual
        ]
        trained = [inside != usual for inside in self._inside(asked, spans)] if spans else [usual] * len(ids)
        return Parts(ids, trained, said)

    def _answer(self, asked: str, whole: str) -> list[int]:
        text = self._continuation(asked, whole)
        ids = self.encoder.go_on(text.removesuffix(self.tail))
        return ids if ids[-1:] == [self.stops[0]] else [*ids, self.stops[0]]

    def _span(self, asked: str, messages: Sequence[Message], tools: Tools) -> tuple[int, int]:
        """Where the last of these messages, an answer, stands in the input, with the token that ends it."""
        begin = self._text(messages[:-1], tools, answering=True)
        end = self._text(messages, tools).removesuffix(self.tail)
        self._continuation(begin, asked)
        self._continuation(end, asked)
        return len(begin), len(end)

    def _inside(self, text: str, spans: Sequence[tuple[int, int]]) -> list[bool]:
        """Which tokens of the text begin in a span."""
        encoded = self.encoder.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [any(a <= start < b for a, b in spans) for start, _ in encoded["offset_mapping"]]

    def _text(self, messages: Sequence[Message], tools: Tools = (), answering: bool = False) -> str:
        if tools and not self._writes_tools:
            raise UserError(
                "the chat template does not write tools, which the row has: take a model whose template does, or "
                "rows without tools"
            )
        form = self._call_form if any(message.calls for message in messages) else CallForm()
        if form is None:
            raise UserError(
                "the chat template does not write calls of tools, which the row has: take a model whose template "
                "does, or write the calls as text"
            )
        text = self._write([form.turn(message) for message in messages], tools, answering)
        for message in messages:
            if (message.calls or message.role in ("system", "tool")) and not is_written(message.content, text):
                what, advice = DROPPED[message.role]
                raise UserError(f"the chat template drops {what}: {advice}")
        return text

    def _write(self, turns: Sequence[dict[str, Any]], tools: Tools = (), answering: bool = False) -> str:
        """What the template makes of the turns; it is given None for no tools, as it is anywhere else."""
        given: list[Any] | None = [dict(tool) for tool in tools] or None
        try:
            text = self.encoder.tokenizer.apply_chat_template(
                list(turns), tools=given, tokenize=False, add_generation_prompt=answering
            )
        except (TemplateError, TypeError, ValueError) as error:  # a template may add text to what is none
            roles = ", ".join(turn["role"] for turn in turns)
            raise UserError(
                f"the chat template refuses the roles {roles} ({error}): change them, or set data.chat: false"
            ) from None
        assert isinstance(text, str)
        return text

    @cached_property
    def _writes_tools(self) -> bool:
        return writes_tools(self._write)

    @cached_property
    def _call_form(self) -> CallForm | None:
        return call_form(self._write)

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
