"""Uvicorn, made to end as a server with running answers must.

Uvicorn itself closes its door at the first signal. Here it stays open until the last answer is finished, so that
whoever comes in the meantime hears a 503.
"""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from luthier.gateway.connection import Connection
from luthier.gateway.service import Service

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class GatedServer(uvicorn.Server):
    """A server that ends when its gate is closed and nobody is inside; `ready` is called once it listens."""

    def __init__(self, app: ASGIApp, service: Service, ready: Callable[[], None]) -> None:
        config = uvicorn.Config(
            app,
            http=Connection,
            lifespan="off",
            ws="none",
            access_log=False,
            log_level="warning",
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=1,  # the gate has waited already
        )
        super().__init__(config)
        self.service, self.ready = service, ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self.ready()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to leave."""
        return await super().on_tick(counter) or self.service.gate.finished()

    def stop(self) -> None:
        """Finish what runs and leave; called again, leave at once."""
        if self.service.gate.closed:
            self.should_exit = self.force_exit = True
            return
        self.service.gate.close()
        # it returns when the last answer is finished, so somebody else must wait for that
        threading.Thread(target=self.service.engine.close, name="closing", daemon=True).start()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """SIGTERM, or Ctrl-C."""
        self.stop()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals come here while the server runs; uvicorn's own version would raise them once more at the end."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
