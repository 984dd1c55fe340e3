"""From the engine's threads to the event loop: the pieces of an answer as an asynchronous iterator."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import Executor

from luthier.generation.engine import Ticket
from luthier.generation.request import Piece


async def pieces(ticket: Ticket, threads: Executor) -> AsyncGenerator[Piece, None]:
    """The pieces of a ticket, whose waiting is done by one of `threads`; what the engine raises is raised here.

    Leaving the iteration early cancels the ticket.
    """
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[Piece | None] = asyncio.Queue()

    def wait_for_pieces() -> None:
        for piece in ticket:
            loop.call_soon_threadsafe(arrived.put_nowait, piece)

    waiting = loop.run_in_executor(threads, wait_for_pieces)
    waiting.add_done_callback(lambda _: arrived.put_nowait(None))
    try:
        while (piece := await arrived.get()) is not None:
            yield piece
        await waiting
    finally:
        if not waiting.done():
            ticket.cancel()
