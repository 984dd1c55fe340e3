"""When another process dies while this one waits on a GPU, no error reaches it: a thread sees to it that it ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from luthier.core.errors import BROKEN

GRACE = 60.0  # seconds in which the error of a lost process reaches this one by itself, which it does on a CPU
LOOK = 0.5  # seconds between two looks


def leave(message: str) -> None:
    """End this process at once, from any thread."""
    print(message, file=sys.stderr, flush=True)
    os._exit(BROKEN)


@contextmanager
def watched(
    others: Sequence[subprocess.Popen], grace: float = GRACE, end: Callable[[str], None] = leave
) -> Iterator[None]:
    """The block does not outlast a process that fails by more than `grace` seconds."""
    over = threading.Event()

    def watch() -> None:
        while not over.wait(min(LOOK, grace)):
            failed = next((process for process in others if process.poll()), None)
            if failed is not None and not over.wait(grace):
                end(
                    f"error: a process that trains with this one was lost (exit code {failed.returncode}) and the "
                    "others wait for it in vain; the last checkpoint stands, `luthier resume` goes on from it"
                )
                return

    thread = threading.Thread(target=watch, name="processes", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
