"""What happens, said once: `emit` goes to the terminal (stderr) and to the run's `events.jsonl`.

The standard library's logging is the bus. A stage emits; who listens (a run folder, a terminal, nobody) is
decided above, by the pipeline and the command line.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from luthier.core.files import finite, json_text

LOGGER = logging.getLogger("luthier")
LOGGER.setLevel(logging.INFO)


def emit(event: str, message: str = "", level: int = logging.INFO, **values: Any) -> None:
    """Report that something happened: a dotted name, a sentence for people, values for machines."""
    LOGGER.log(level, message, extra={"event": event, "values": values})


def warn(event: str, message: str, **values: Any) -> None:
    """Report something that the user should look at."""
    emit(event, message, logging.WARNING, **values)


class _JsonlHandler(logging.FileHandler):
    def format(self, record: logging.LogRecord) -> str:
        body = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "event": getattr(record, "event", "log"),
            "message": record.getMessage(),
            **getattr(record, "values", {}),
        }
        return json_text(finite(body), default=str)


@contextmanager
def recorded(path: Path) -> Iterator[None]:
    """Append every event of the block to a JSONL file."""
    handler = _JsonlHandler(path, encoding="utf-8")
    LOGGER.addHandler(handler)
    try:
        yield
    finally:
        LOGGER.removeHandler(handler)
        handler.close()


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._start = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds so far."""
        return time.perf_counter() - self._start
