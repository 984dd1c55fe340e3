"""POST /v1/chat/completions and /v1/completions: one request, its answer whole or as a stream of events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import replace
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from luthier.core.events import warn
from luthier.core.files import json_text
from luthier.gateway.body import read_body
from luthier.gateway.errors import ApiError, broken, leaving
from luthier.gateway.kinds import CHAT, COMPLETION, Kind
from luthier.gateway.parse import parse
from luthier.gateway.pump import pieces
from luthier.gateway.service import Service
from luthier.gateway.stream import EventStream, unless_gone
from luthier.gateway.trace import GONE, Trace
from luthier.generation.request import CANCELLED, Closed, Failed, Piece

Pieces = AsyncGenerator[Piece, None]
DONE = b"data: [DONE]\n\n"


async def chat(request: Request) -> Response:
    """An answer to messages."""
    return await _answer(request, CHAT)


async def completion(request: Request) -> Response:
    """An answer to a prompt."""
    return await _answer(request, COMPLETION)


async def _answer(request: Request, kind: Kind) -> Response:
    service: Service = request.app.state.service
    with ExitStack() as held:
        trace = held.enter_context(Trace(service, kind, request.scope["luthier.key"]))
        held.enter_context(service.gate.entered())
        asked = parse(await read_body(request, service.limits.body), kind.asked)
        trace.found(asked, service.origin(asked.model))
        ticket = await service.submit(kind, asked)
        trace.queued(ticket)
        came = pieces(ticket, service.waiters)
        followed = trace.follow(_trimmed(came) if kind.trims else came)
        made = await unless_gone(request.receive, (_first if asked.stream else _whole)(trace, followed))
        if made is None:
            trace.gone()
            return Response(status_code=GONE)
        if isinstance(made, Piece):
            # what is held is let go when the stream ends, not here
            return EventStream(_events(trace, made, followed), trace, held.pop_all())
        return JSONResponse(made)


async def _trimmed(came: Pieces) -> Pieces:
    """The pieces without white space before the answer: as in the evaluation, it is no part of it."""
    begun = False
    async with aclosing(came):
        async for piece in came:
            text = piece.text if begun else piece.text.lstrip()
            begun = begun or bool(text)
            yield replace(piece, text=text)


async def _first(trace: Trace, followed: Pieces) -> Piece:
    """The beginning of a stream: until it is there, an error can still be told by its status."""
    with _told(trace):
        piece = await anext(followed)
        if piece.finish == CANCELLED:
            raise leaving()
    return piece


async def _whole(trace: Trace, followed: Pieces) -> dict[str, Any]:
    with _told(trace):
        async with aclosing(followed):
            async for _ in followed:
                pass
        if trace.stop == CANCELLED:
            raise leaving()
    choice = trace.kind.whole(trace.text, trace.stop)
    return {**_head(trace, trace.kind.object), "choices": [choice], "usage": trace.usage}


async def _events(trace: Trace, first: Piece, followed: Pieces) -> AsyncGenerator[bytes, None]:
    """Server-sent events: the pieces, the finish reason, the usage if wanted, and OpenAI's end mark."""
    assert trace.asked is not None
    usage = {"usage": None} if trace.asked.usage_wanted else {}
    head, delta = {**_head(trace, trace.kind.chunk), **usage}, trace.kind.delta
    if trace.kind.opens:
        yield _event({**head, "choices": [delta("", None)]})
    if first.text:
        yield _event({**head, "choices": [delta(first.text, None)]})
    try:
        with _told(trace):
            async with aclosing(followed):
                async for piece in followed:
                    if piece.text:
                        yield _event({**head, "choices": [delta(piece.text, None)]})
            if trace.stop == CANCELLED:
                raise leaving()
    except ApiError as error:  # the status is out already: OpenAI's clients raise what such an event says
        trace.failed(error)
        yield _event(error.body())
        return
    yield _event({**head, "choices": [delta(None, trace.stop)]})
    if usage:
        yield _event({**head, "choices": [], "usage": trace.usage})
    yield DONE


@contextmanager
def _told(trace: Trace) -> Iterator[None]:
    """What broke in the engine goes to the log, and to the client as an error without its details."""
    try:
        yield
    except Closed:
        raise leaving() from None
    except Failed as error:
        warn("gateway", f"{trace.id} broke: {error}")
        raise broken() from None


def _head(trace: Trace, kind: str) -> dict[str, Any]:
    assert trace.asked is not None and trace.origin is not None
    return {
        "id": trace.id,
        "object": kind,
        "created": int(trace.created),
        "model": trace.asked.model,
        "system_fingerprint": trace.origin.fingerprint,
    }


def _event(body: dict[str, Any]) -> bytes:
    return f"data: {json_text(body)}\n\n".encode()
