"""What stands before every route: a request's id, the key that opens the door, and the headers of every answer.

All is closed unless it is named in `PUBLIC`: a route that somebody adds needs a key without anybody thinking of it.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from luthier.core.events import warn
from luthier.gateway.errors import ApiError, broken, unauthorized
from luthier.gateway.keys import KeyRing
from luthier.gateway.metrics import Metrics

PUBLIC = frozenset({"/health"})
LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def told(error: ApiError) -> Response:
    """An error as a response."""
    return JSONResponse(error.body(), error.status, error.headers)


class Guard:
    """The outermost layer around `app`; `keys` is None where none is needed, which only loopback may do."""

    def __init__(self, app: ASGIApp, keys: KeyRing | None, metrics: Metrics) -> None:
        self.app, self.keys, self.metrics = app, keys, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it with what is missing."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request, start = f"req_{uuid.uuid4().hex}", time.perf_counter()
        status = 500

        async def stamped(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["x-request-id"] = request
                headers["openai-processing-ms"] = str(round((time.perf_counter() - start) * 1000))
                headers["x-content-type-options"] = "nosniff"
                if status == 500:
                    warn("gateway", f"{request}: {scope['method']} {scope['path'][:200]!r} broke")
            await send(message)

        try:
            scope["luthier.key"] = self._admit(scope)
        except ApiError as error:
            await told(error)(scope, receive, stamped)
        else:
            await self.app(scope, receive, stamped)
        finally:
            self._count(scope, status)

    def _admit(self, scope: Scope) -> str:
        """The name of the request's key, empty where none is needed; raises `ApiError` where it is not let in."""
        headers = Headers(scope=scope)
        if self.keys is None:
            # without keys, a web page that points its own name at this machine must not get in
            if _host(headers.get("host", "")) not in LOOPBACK:
                raise ApiError(403, "Without keys only requests to localhost are answered.", code="wrong_host")
            return ""
        if scope["path"] in PUBLIC:
            return ""
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key.strip():
            raise unauthorized("You did not provide an API key. Send it as `Authorization: Bearer KEY`.")
        name = self.keys.name_of(key.strip())
        if name is None:
            raise unauthorized("Incorrect API key provided. `luthier keys --new NAME` makes one.")
        return name

    def _count(self, scope: Scope, status: int) -> None:
        # the route's own path, never the client's: its values are few
        route = getattr(scope.get("route"), "path", "none")
        method = scope["method"] if scope["method"] in ("GET", "HEAD", "POST") else "other"
        self.metrics.http.labels(route, method, str(status)).inc()


def _host(header: str) -> str:
    """The name in a Host header, without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0].lower()


async def unexpected(request: Any, error: Exception) -> Response:
    """A defect of ours: the client hears that much, the log has the traceback."""
    return told(broken())
