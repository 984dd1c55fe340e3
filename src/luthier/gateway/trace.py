"""One request from its arrival to its end: what is measured of it, counted, and recorded."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from types import TracebackType
from typing import Any

from luthier.gateway.errors import ApiError
from luthier.gateway.kinds import Kind
from luthier.gateway.lineage import Origin
from luthier.gateway.metrics import ENGINE
from luthier.gateway.requests import Asked
from luthier.gateway.service import Service
from luthier.generation.engine import Ticket
from luthier.generation.request import Piece
from luthier.monitor.traffic import Shape

GONE = 499  # the client left before the answer was whole


class Trace:
    """A context around a request: leaving it counts and records how the request ended."""

    def __init__(self, service: Service, kind: Kind, key: str) -> None:
        self.service, self.kind, self.key = service, kind, key
        self.id = f"{kind.prefix}{uuid.uuid4().hex}"
        self.created = time.time()
        self.status, self.code, self.stop = 200, "", ""
        self.prompt_tokens = self.answer_tokens = 0
        self.asked: Asked | None = None
        self.origin: Origin | None = None
        self._ticket: Ticket | None = None
        self._texts: list[str] = []
        self._start = self._last = time.perf_counter()
        self._first: float | None = None

    def __enter__(self) -> Trace:
        return self

    def found(self, asked: Asked, origin: Origin) -> None:
        """The request is understood and its model is served."""
        self.asked, self.origin = asked, origin

    def queued(self, ticket: Ticket) -> None:
        """The engine has taken it."""
        assert self.asked is not None
        self._ticket, self.prompt_tokens = ticket, ticket.prompt_tokens
        self.service.gate.hold(ticket)
        self._waiting().inc()

    async def follow(self, pieces: AsyncGenerator[Piece, None]) -> AsyncGenerator[Piece, None]:
        """The pieces, each noted as it passes."""
        async with aclosing(pieces):
            async for piece in pieces:
                self._note(piece)
                yield piece

    def _note(self, piece: Piece) -> None:
        now = time.perf_counter()
        if self._first is None:
            self._first = now - self._start
            self._waiting().dec()
            self._running().inc()
            self._label(self.service.metrics.first_token).observe(self._first)
        elif piece.tokens:
            self._label(self.service.metrics.between).observe((now - self._last) / piece.tokens)
        self._last = now
        self.answer_tokens += piece.tokens
        self._texts.append(piece.text)
        self.stop = piece.finish or ""

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._texts)

    @property
    def usage(self) -> dict[str, int]:
        """Tokens used, in OpenAI's words."""
        total = self.prompt_tokens + self.answer_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.answer_tokens,
            "total_tokens": total,
        }

    def failed(self, error: ApiError) -> None:
        """The request ends with this error."""
        self.status, self.code = error.status, error.code or error.type

    def gone(self) -> None:
        """The client left."""
        self.status, self.code, self.stop = GONE, "client_gone", "cancelled"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ApiError):
            self.failed(error)
        elif isinstance(error, asyncio.CancelledError):
            self.gone()
        elif error is not None:
            self.status, self.code = 500, "internal_error"
        seconds = time.perf_counter() - self._start
        if self._ticket is not None:
            self.service.gate.release(self._ticket)
            (self._waiting() if self._first is None else self._running()).dec()
            self._count(seconds)
        if self.origin is not None and self.status == 200 and self.asked is not None:
            self.service.remember(self.id, self.asked.model, self.origin)
        run = self.origin.folder if self.origin else self.service.home
        self.service.record(run, self._shape(seconds))

    def _count(self, seconds: float) -> None:
        metrics = self.service.metrics
        self._label(metrics.prompt_tokens).inc(self.prompt_tokens)
        self._label(metrics.generation_tokens).inc(self.answer_tokens)
        self._label(metrics.prompt_length).observe(self.prompt_tokens)
        self._label(metrics.answer_length).observe(self.answer_tokens)
        self._label(metrics.latency).observe(seconds)
        if self.asked is not None and self.asked.most is not None:
            self._label(metrics.most_tokens).observe(self.asked.most)
        reason = self.stop if self.status == 200 else "abort" if self.status in (GONE, 503) else "error"
        self._label(metrics.success, reason).inc()

    def _shape(self, seconds: float) -> Shape:
        keep = self.service.content and self.asked is not None
        return Shape(
            id=self.id,
            time=self.created,
            model=self.asked.model if self.asked else "",
            variant=self.origin.variant if self.origin else "",
            weights=self.origin.weights if self.origin else "",
            kind=self.kind.name,
            status=self.status,
            code=self.code,
            stop=self.stop,
            streamed=bool(self.asked and self.asked.stream),
            prompt_tokens=self.prompt_tokens,
            answer_tokens=self.answer_tokens,
            answer_characters=len(self.text.strip()),
            seconds=seconds,
            first_token_seconds=self._first,
            key=self.key,
            prompt=self.kind.said(self.asked) if keep else None,
            answer=self.text if keep else None,
        )

    def _label(self, metric: Any, *further: str) -> Any:
        assert self.asked is not None
        return metric.labels(self.asked.model, ENGINE, *further)

    def _waiting(self) -> Any:
        return self._label(self.service.metrics.waiting)

    def _running(self) -> Any:
        return self._label(self.service.metrics.running)
