"""The turns of `luthier chat`: lines in, answers out as they come, side by side where there are two."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from luthier.core.errors import UserError

if TYPE_CHECKING:
    from luthier.generation.engine import Ticket
    from luthier.generation.request import Piece
    from luthier.generation.talk import Talk

HELP = "/reset forgets what was said, /exit leaves; Ctrl-C ends an answer early"
ICONV = "convert it, such as with iconv -f latin1 -t utf-8"
BROKEN = "\ufffd"
Turn = dict[str, Any]


class Page:
    """Where answers are shown; `out` None: nowhere."""

    def __init__(self, out: TextIO | None) -> None:
        self.out = out
        self.console = Console(file=out, highlight=False, quiet=out is None)
        self.live = sys.stdin.isatty() and self.console.is_terminal

    def lines(self) -> Iterator[str]:
        """What the user writes, line by line, until its end or /exit."""
        if self.live:
            self.console.print(f"[dim]{HELP}[/]")
        while True:
            try:
                line = self._line()
                line.encode()
            except (EOFError, KeyboardInterrupt):
                return
            except UnicodeError:
                if not self.live:
                    raise UserError(f"standard input is not UTF-8: {ICONV}") from None
                self.say(f"that was not UTF-8: {ICONV}")
                continue
            if line.strip() == "/exit":
                return
            if line.strip():
                yield line.strip()

    def _line(self) -> str:
        if self.live:
            with redirect_stdout(self.out):  # `input` edits lines on the real standard output alone
                return input(_prompt())
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line

    def say(self, text: str) -> None:
        """A word of ours."""
        self.console.print(text, style="dim")

    def answers(self, names: Sequence[str], pieces: Iterator[tuple[int, str]]) -> None:
        """The texts of some models while they come: (which, what more)."""
        texts = ["" for _ in names]
        if len(names) == 1:
            for _, text in pieces:
                self.console.print(shown(text), end="", markup=False, soft_wrap=True)
            self.console.print()
        elif self.live:
            # what is taller than the window is cropped while it comes, and stands whole in the end
            with Live(console=self.console, refresh_per_second=12, vertical_overflow="crop", transient=True) as live:
                for which, text in pieces:
                    texts[which] += text
                    live.update(_beside(names, texts))
            self.console.print(_beside(names, texts))
        else:
            for which, text in pieces:
                texts[which] += text
            for name, text in zip(names, texts, strict=True):
                self.console.print(f"{name}: {shown(text)}", markup=False, soft_wrap=True)


def _prompt() -> str:
    """What stands before the user's line, which can be edited and called back where Python has readline."""
    try:
        import readline  # noqa: F401  (`input` uses it from then on)
    except ImportError:
        return "> "
    return "\001\033[1;36m\002> \001\033[0m\002"  # marked as taking no room


def shown(text: str) -> str:
    """The text without what a terminal would take for a command: a model may say anything."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) != "Cc" else BROKEN for c in text)


def talk(talks: Sequence[Talk], page: Page) -> list[Turn]:
    """Answer what the user writes until they leave; every turn with its answers."""
    turns: list[Turn] = []
    for line in page.lines():
        if line == "/reset":
            for each in talks:
                each.forget()
            page.say("forgotten")
        elif line.startswith("/") and " " not in line and page.live:
            page.say(HELP)
        else:
            try:
                tickets = [each.ask(line) for each in talks]
            except UserError as error:
                if not page.live:
                    raise
                page.say(f"{error} (/reset forgets the earlier turns)")
                continue
            turns.append({"prompt": line, "answers": _answers(talks, tickets, page)})
            for each, answer in zip(talks, turns[-1]["answers"], strict=True):
                each.remember(line, answer["answer"])
    return turns


def _answers(talks: Sequence[Talk], tickets: Sequence[Ticket], page: Page) -> list[Turn]:
    """Show the answers while they come, and what each was in the end."""
    found = [{"model": each.name, "answer": "", "tokens": 0, "finish": None} for each in talks]

    def pieces() -> Iterator[tuple[int, str]]:
        for which, piece in _merged(tickets):
            entry = found[which]
            # as in the evaluation, white space before an answer is not part of it
            text = piece.text if entry["answer"] else piece.text.lstrip()
            entry.update(answer=entry["answer"] + text, tokens=entry["tokens"] + piece.tokens, finish=piece.finish)
            yield which, text

    try:
        page.answers([each.name for each in talks], pieces())
    except KeyboardInterrupt:
        for ticket in tickets:
            ticket.cancel()
        page.say("\n(ended)")
    for entry in found:
        entry["answer"] = entry["answer"].rstrip()
    return found


def _merged(tickets: Sequence[Ticket]) -> Iterator[tuple[int, Piece]]:
    """The pieces of several answers as they come, each with whose it is."""
    arrived: SimpleQueue[tuple[int, Piece | BaseException | None]] = SimpleQueue()

    def wait(which: int, ticket: Ticket) -> None:
        try:
            for piece in ticket:
                arrived.put((which, piece))
        except RuntimeError as error:
            arrived.put((which, error))
        arrived.put((which, None))

    for which, ticket in enumerate(tickets):
        Thread(target=wait, args=(which, ticket), daemon=True).start()
    left = len(tickets)
    while left:
        which, piece = arrived.get()
        if piece is None:
            left -= 1
        elif isinstance(piece, BaseException):
            raise piece
        else:
            yield which, piece


def _beside(names: Sequence[str], texts: Sequence[str]) -> Table:
    table = Table(box=None, expand=True, padding=(0, 2, 0, 0))
    for name in names:
        table.add_column(name, ratio=1, header_style="dim")
    table.add_row(*(Text(shown(text)) for text in texts))
    return table
