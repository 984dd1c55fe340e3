"""The application: the routes behind the guard."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from luthier.gateway.errors import ApiError
from luthier.gateway.guard import Guard, told, unexpected
from luthier.gateway.keys import KeyRing
from luthier.gateway.openapi import document
from luthier.gateway.routes import ENDPOINTS
from luthier.gateway.service import Service


def application(service: Service, keys: KeyRing | None) -> ASGIApp:
    """The server as an ASGI application; `keys` None: whoever reaches it may use it."""
    handlers: dict[Any, Any] = {ApiError: _api, HTTPException: _http, Exception: unexpected}
    app = Starlette(
        routes=[Route(e.path, e.call, methods=[e.method]) for e in ENDPOINTS], exception_handlers=handlers
    )
    app.router.redirect_slashes = False
    app.state.service = service
    app.state.document = document(list(service.origins), service.limits.tokens, keys is not None)
    return Guard(app, keys, service.metrics)


async def _api(request: Request, error: ApiError) -> Response:
    return told(error)


async def _http(request: Request, error: HTTPException) -> Response:
    """What the router itself refuses: no such path, another method."""
    where = f"({request.method} {request.url.path[:200]})"
    words = {404: f"Invalid URL {where}", 405: f"Not allowed {where}"}
    message = words.get(error.status_code, HTTPStatus(error.status_code).phrase)
    return told(ApiError(error.status_code, message, headers=error.headers))
