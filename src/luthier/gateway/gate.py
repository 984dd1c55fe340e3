"""The gate between the network and the engine: it counts who is inside, and closes when the server is to stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from luthier.gateway.errors import leaving

PATIENCE = 3.0  # seconds after the grace for those who were cancelled to hear of it


class Cancellable(Protocol):
    """What can be told to stop early."""

    def cancel(self) -> None: ...


class Gate:
    """Lets requests in until it is closed; those inside may finish for `grace` seconds."""

    def __init__(self, grace: float) -> None:
        self.grace = grace
        self.refused = 0
        self._inside = 0
        self._tickets: set[Cancellable] = set()
        self._closed: float | None = None

    @property
    def closed(self) -> bool:
        """Whether the server takes nothing on any more."""
        return self._closed is not None

    @property
    def idle(self) -> bool:
        """Whether nobody is inside."""
        return self._inside == 0

    def close(self) -> None:
        """Take nothing on any more."""
        if self._closed is None:
            self._closed = time.monotonic()

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Count the block as running; raises `ApiError` (503) once the gate is closed."""
        if self.closed:
            self.refused += 1
            raise leaving()
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    def hold(self, ticket: Cancellable) -> None:
        """Remember what to cancel when the time to finish is over."""
        self._tickets.add(ticket)

    def release(self, ticket: Cancellable) -> None:
        """Forget it: it is done."""
        self._tickets.discard(ticket)

    def finished(self) -> bool:
        """Whether the closed gate's server may go. Cancels what still runs when the time to finish is over.

        Nobody is waited for beyond that: a client that neither sends nor reads would hold the server for ever.
        """
        if self._closed is None:
            return False
        late = time.monotonic() - self._closed - self.grace
        if late > 0:
            for ticket in self._tickets:
                ticket.cancel()
        return self.idle or late > PATIENCE
