"""The routes that stand beside the answers: models, ratings, health, metrics, and the API's own description."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from luthier.gateway import answer
from luthier.gateway.body import read_body
from luthier.gateway.lineage import Origin
from luthier.gateway.parse import parse
from luthier.gateway.requests import ChatRequest, CompletionRequest, FeedbackRequest
from luthier.gateway.service import Service
from luthier.monitor.traffic import Feedback

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class Endpoint:
    """One route: `errors` are the statuses that it may answer with beside 200."""

    method: str
    path: str
    call: Callable[[Request], Awaitable[Response]]
    summary: str
    errors: tuple[int, ...] = ()
    body: type[BaseModel] | None = None
    gives: str = "application/json"


def _service(request: Request) -> Service:
    return request.app.state.service


def _model(name: str, origin: Origin, context: int) -> dict[str, Any]:
    lineage = {"run": origin.run, "variant": origin.variant, "weights": origin.weights}
    return {
        "id": name,
        "object": "model",
        "created": origin.created,
        "owned_by": "luthier",
        "max_model_len": context,
        "lineage": lineage,
    }


async def models(request: Request) -> Response:
    """Every model that is served."""
    service = _service(request)
    found = [_model(name, origin, service.served.context) for name, origin in service.origins.items()]
    return JSONResponse({"object": "list", "data": found})


async def model(request: Request) -> Response:
    """One model; its name may hold slashes."""
    service, name = _service(request), request.path_params["model"]
    return JSONResponse(_model(name, service.origin(name), service.served.context))


async def feedback(request: Request) -> Response:
    """A thumb up or down for an answer, kept with where the answer came from; a second one replaces the first."""
    service = _service(request)
    with service.gate.entered():
        asked = parse(await read_body(request, service.limits.body), FeedbackRequest)
        name, origin = service.answered(asked.id)
        rating = Feedback(
            id=asked.id,
            time=time.time(),
            rating=asked.rating,
            comment=asked.comment,
            key=request.scope["luthier.key"],
            run=origin.run,
            model=name,
            variant=origin.variant,
            weights=origin.weights,
        )
        service.recorders[origin.folder].put(rating)
        service.metrics.feedback.labels(name, asked.rating).inc()
    return JSONResponse({"id": asked.id, "object": "feedback", "rating": asked.rating, "model": name})


async def health(request: Request) -> Response:
    """200 while requests are taken on, 503 once the server is to stop."""
    if _service(request).gate.closed:
        return JSONResponse({"status": "stopping"}, 503)
    return JSONResponse({"status": "ok"})


async def metrics(request: Request) -> Response:
    """Counters and histograms for Prometheus."""
    return Response(_service(request).metrics.text(), headers={"content-type": PROMETHEUS})


async def description(request: Request) -> Response:
    """This API as an OpenAPI document."""
    return JSONResponse(request.app.state.document)


ANSWERS = (400, 404, 408, 413, 415, 429, 500, 503)
ENDPOINTS = (
    Endpoint("GET", "/v1/models", models, "The models that are served."),
    Endpoint("GET", "/v1/models/{model:path}", model, "One model.", (404,)),
    Endpoint("POST", "/v1/chat/completions", answer.chat, "An answer to messages.", ANSWERS, ChatRequest),
    Endpoint("POST", "/v1/completions", answer.completion, "An answer to a prompt.", ANSWERS, CompletionRequest),
    Endpoint("POST", "/v1/feedback", feedback, "Rate an answer.", (400, 404, 408, 413, 415, 503), FeedbackRequest),
    Endpoint("GET", "/health", health, "Whether requests are taken on.", (503,)),
    Endpoint("GET", "/metrics", metrics, "Counters for Prometheus.", gives="text/plain"),
    Endpoint("GET", "/openapi.json", description, "This document."),
)
"""Every route of the server, in the order in which they are tried."""
