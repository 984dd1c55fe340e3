"""Ctrl-C and SIGTERM: finish the step, save, stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from luthier.core.events import warn

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopRequest:
    """Whether somebody asked the run to stop."""

    def __init__(self) -> None:
        self.made = False

    def ask(self, number: int, frame: FrameType | None) -> None:
        """The signal handler: the first asks politely, the second stops at once."""
        if self.made:
            raise KeyboardInterrupt
        self.made = True
        warn("train.stop", "stopping after this step; again to stop at once")


@contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Listen for Ctrl-C and SIGTERM during the block; outside the main thread nobody can."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request.ask) for number in SIGNALS}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
