"""One client's connection: it may stay only while requests come over it."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

SECONDS = 30.0  # that a request's head may take to arrive


class Connection(H11Protocol):
    """Uvicorn's connection, closed where the next request's head is not complete after `SECONDS`.

    Uvicorn itself limits only the silence after an answer, so that whoever sends nothing, or half a head, would hold
    a connection for ever, and without a key.
    """

    _late: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first request."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._late.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Wait for the next request; it may lie in the buffer already."""
        self._expect_head()
        super().on_response_complete()

    def handle_events(self) -> None:
        """Read what has come; a head that is complete may take its time for the rest."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._late.cancel()

    def _expect_head(self) -> None:
        self._late = self.loop.call_later(SECONDS, self.timeout_keep_alive_handler)
