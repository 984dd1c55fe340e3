"""A conversation with one served model: what was said, and the next question in its light."""

from __future__ import annotations

from dataclasses import dataclass, field

from luthier.core.records import Message
from luthier.generation.engine import Engine, Ticket
from luthier.generation.request import Request, Sampling


@dataclass
class Talk:
    """`name` is the model's; `messages` are the turns so far, kept only for a model that was trained on turns."""

    engine: Engine
    name: str
    sampling: Sampling
    messages: list[Message] = field(default_factory=list)

    def ask(self, question: str) -> Ticket:
        """Put the question into the queue; UserError where it does not fit into the context."""
        asked = (*self.messages, Message("user", question))
        prompt = self.engine.served.find(self.name).prompts.chat(asked)
        return self.engine.submit(Request(tuple(prompt), self.sampling, self.name))

    def remember(self, question: str, answer: str) -> None:
        """Keep a finished turn for the questions to come."""
        if self.engine.served.find(self.name).prompts.turns:
            self.messages += [Message("user", question), Message("assistant", answer)]

    def forget(self) -> None:
        """Start again."""
        self.messages.clear()
