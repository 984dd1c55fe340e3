"""What happens, on stderr: one calm line for each finished stage, warnings where they arise."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from luthier.core import progress
from luthier.core.events import LOGGER


class _Terminal(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        event, values = getattr(record, "event", "log"), getattr(record, "values", {})
        if event == "stage.started":
            self._begin(values["stage"])
        elif event in ("stage.done", "stage.skipped"):
            self._end(values, event == "stage.skipped")
        elif record.levelno >= logging.WARNING:
            self._say(f"  [yellow]![/] {escape(record.getMessage())}")
        elif record.getMessage() and self.console.is_terminal and not _on_the_stage_line(event):
            self._say(f"    [dim]{escape(record.getMessage())}[/]")

    def _begin(self, stage: str) -> None:
        if self.console.is_terminal:
            self.console.print(f"  [dim]·[/] {escape(stage)} ...", end="\r", highlight=False)

    def _end(self, values: dict, skipped: bool) -> None:
        from luthier.pipeline.headline import span

        mark = "[dim]=[/]" if skipped else "[green]✓[/]"
        took = "unchanged" if skipped else span(values["seconds"])
        self._say(f"  {mark} {escape(values['stage']):<18} [dim]{took:>12}[/]   {escape(values['headline'])}")

    def _say(self, text: str) -> None:
        if self.console.is_terminal:
            self.console.print(" " * (self.console.width - 1), end="\r")
        self.console.print(text, highlight=False, soft_wrap=True)


def _on_the_stage_line(event: str) -> bool:
    """Whether the stage's own line says the same a moment later."""
    return event.endswith(".done") or event in ("plan.preflight", "plan.estimate")


@contextmanager
def listening(as_json: bool) -> Iterator[None]:
    """Show the events of the block on stderr; bars only where somebody watches."""
    handler = _Terminal(Console(stderr=True))
    LOGGER.addHandler(handler)
    progress.enable(not as_json)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        progress.enable(False)
