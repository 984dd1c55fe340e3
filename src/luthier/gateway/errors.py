"""Errors as OpenAI's clients expect them: a status, and a body that says what is wrong and what to do instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """An answer other than 200: `type`, `code` and `param` are OpenAI's words for machines."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message = status, message
        self.type, self.code, self.param = type, code, param
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON body."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}


def invalid(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """400: the request itself must change."""
    return ApiError(400, message, param=param, code=code)


def too_long(message: str, param: str) -> ApiError:
    """400: the prompt, or the prompt and the answer, do not fit the model's context."""
    return invalid(message, param=param, code="context_length_exceeded")


def unauthorized(message: str) -> ApiError:
    """401: no key, or one that is not known."""
    headers = {"www-authenticate": "Bearer"}
    return ApiError(401, message, code="invalid_api_key", headers=headers)


def no_model(name: str, known: list[str]) -> ApiError:
    """404: a model that is not served."""
    message = f"The model `{name[:100]}` does not exist. Served here: {', '.join(known)}."
    return ApiError(404, message, code="model_not_found", param="model")


def too_large(limit: int) -> ApiError:
    """413: a body over the limit in bytes."""
    message = f"The body is larger than {limit:,} bytes. Shorten the messages, or start the server with --max-body."
    return ApiError(413, message, code="request_too_large")


def busy(seconds: int = 1) -> ApiError:
    """429: as many requests run and wait as may."""
    message = "The server runs and queues as many requests as it may. Try again in a moment."
    headers = {"retry-after": str(seconds)}
    return ApiError(429, message, type="requests", code="rate_limit_exceeded", headers=headers)


def leaving() -> ApiError:
    """503: the server finishes what runs and then stops."""
    message = "The server is shutting down. Try again in a moment."
    headers = {"retry-after": "5", "connection": "close"}
    return ApiError(503, message, type="server_error", code="shutting_down", headers=headers)


def broken() -> ApiError:
    """500: a defect of ours; what went wrong stands in the server's log, not in the answer."""
    message = "Something broke in the server; its log has the details, under this answer's x-request-id."
    return ApiError(500, message, type="server_error", code="internal_error")
