"""A request on its way: what the asker holds, and what the engine keeps of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from queue import SimpleQueue

from luthier.generation.request import CANCELLED, LENGTH, STOP, Closed, Failed, Piece
from luthier.generation.sampling import Chooser
from luthier.generation.served import Adapter
from luthier.generation.text import Stream


class Ticket:
    """The asker's side: iterate over it for the pieces of the answer, which blocks until the last.

    Iterating raises `Failed` where the engine could not finish the answer, and `Closed` where it was closed before it
    began. Only one may iterate, and only once.
    """

    def __init__(self, prompt_tokens: int, wake: Callable[[], None]) -> None:
        self.prompt_tokens = prompt_tokens
        self.cancelled = False
        self._wake = wake
        self._pieces: SimpleQueue[Piece | Failed | Closed] = SimpleQueue()

    def __iter__(self) -> Iterator[Piece]:
        while True:
            piece = self._pieces.get()
            if not isinstance(piece, Piece):
                raise piece
            yield piece
            if piece.finish is not None:
                return

    def cancel(self) -> None:
        """Ask for no more: the place is free after the step at work, and the last piece says `cancelled`.

        Nothing happens where the answer is finished already.
        """
        self.cancelled = True
        self._wake()

    def put(self, piece: Piece | Failed | Closed) -> None:
        """The engine's side: one more piece."""
        self._pieces.put(piece)


class Row:
    """The engine's side: one answer in the making."""

    def __init__(
        self,
        ticket: Ticket,
        adapter: Adapter,
        prompt: list[int],
        room: int,
        chooser: Chooser,
        stream: Stream,
    ) -> None:
        self.ticket, self.adapter = ticket, adapter
        self.prompt = prompt  # virtual tokens included
        self.room = room  # new tokens, at most
        self.chooser, self.stream = chooser, stream
        self.stops = frozenset(adapter.prompts.template.stop_ids)
        self.tokens = 0

    def take(self, token: int) -> bool:
        """One more token of the answer; whether it was the last. The asker gets what it makes certain."""
        if self.ticket.cancelled:
            self.finish(CANCELLED)
            return True
        if token in self.stops:
            self.finish(STOP)
            return True
        self.tokens += 1
        text = self.stream.add(token)
        if self.stream.stopped:
            self.finish(STOP, text, 1)
        elif self.tokens == self.room:
            text += self.stream.end()
            self.finish(STOP if self.stream.stopped else LENGTH, text, 1)
        else:
            self.ticket.put(Piece(text, 1))
            return False
        return True

    def finish(self, why: str, text: str | None = None, tokens: int = 0) -> None:
        """Give the last piece; without `text`, what was held back."""
        self.ticket.put(Piece(self.stream.end() if text is None else text, tokens, why))
