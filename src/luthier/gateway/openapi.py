"""The server's own OpenAPI document, made from the routes and the request models that the server itself uses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import luthier
from luthier.gateway.guard import PUBLIC
from luthier.gateway.requests import schema_of
from luthier.gateway.routes import ENDPOINTS, Endpoint

MEANING = {
    400: "The request must change: the message says how.",
    401: "No key, or an unknown one.",
    403: "Without keys only requests to localhost are answered.",
    404: "Not served here.",
    408: "The body took too long.",
    413: "The body is too large.",
    415: "The body is not sent as JSON.",
    429: "Too many requests run and wait; Retry-After says when to come back.",
    500: "A defect of the server.",
    503: "The server is shutting down.",
}
ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}


def document(names: Sequence[str], tokens: int, keys: bool) -> dict[str, Any]:
    """The document of a server of these models, of answers up to `tokens`; `keys`: whether it asks for them."""
    schemas: dict[str, Any] = {"Error": ERROR}
    paths: dict[str, Any] = {}
    for endpoint in ENDPOINTS:
        path = re.sub(r":path}", "}", endpoint.path)
        operation = _operation(endpoint, path, keys)
        if endpoint.body is not None:
            schema = schema_of(endpoint.body, names, tokens)
            schemas.update(schema.pop("$defs", {}))
            schemas[endpoint.body.__name__] = schema
        paths.setdefault(path, {})[endpoint.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {"title": "Luthier", "version": luthier.__version__, "description": "OpenAI's API over a run."},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(endpoint: Endpoint, path: str, keys: bool) -> dict[str, Any]:
    closed = keys and path not in PUBLIC
    errors = sorted({*endpoint.errors, *((401,) if closed else ()), *(() if keys else (403,))})
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": endpoint.call.__name__,
        "security": [{"key": []}] if closed else [],
        "responses": {"200": _success(endpoint), **{str(status): _error(status) for status in errors}},
    }
    parameters = re.findall(r"{(\w+)}", path)
    if parameters:
        operation["parameters"] = [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in parameters
        ]
    if endpoint.body is not None:
        reference = {"$ref": f"#/components/schemas/{endpoint.body.__name__}"}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": reference}}}
    return operation


def _success(endpoint: Endpoint) -> dict[str, Any]:
    content: dict[str, Any] = {endpoint.gives: {}}
    if 429 in endpoint.errors:
        content["text/event-stream"] = {}
    return {"description": "Done.", "content": content}


def _error(status: int) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Error"}
    if status == 503:
        schema = {}
    return {"description": MEANING[status], "content": {"application/json": {"schema": schema}}}
