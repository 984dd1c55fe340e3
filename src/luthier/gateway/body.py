"""A request's body, never more of it than is allowed."""

from __future__ import annotations

import asyncio

from starlette.requests import ClientDisconnect, Request

from luthier.gateway.errors import ApiError, invalid, too_large

SECONDS = 60.0  # that a body may take to arrive
PATIENCE = 16  # times the limit that is read and thrown away, so that the client is still there to hear the answer


async def read_body(request: Request, limit: int) -> bytes:
    """The body in bytes; raises `ApiError` for one that is not JSON (415), over the limit (413) or too slow (408)."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        # a web page may send any other kind to this address without asking the browser's leave
        raise ApiError(415, "Send the body as JSON, with the header Content-Type: application/json.")
    if int(request.headers.get("content-length", 0)) > limit * PATIENCE:
        raise too_large(limit)
    try:
        async with asyncio.timeout(SECONDS):
            return await _collected(request, limit)
    except TimeoutError:
        raise ApiError(408, f"The body took longer than {SECONDS:.0f} seconds.") from None
    except ClientDisconnect:
        raise invalid("The body broke off.") from None


async def _collected(request: Request, limit: int) -> bytes:
    body, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit * PATIENCE:
            break
        if size <= limit:
            body += chunk
    if size > limit:
        raise too_large(limit)
    return bytes(body)
