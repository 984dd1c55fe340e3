"""How much the server takes on."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What one request, and all of them together, may use."""

    body: int = 1 << 20
    """Bytes of a request's body."""
    tokens: int = 1024
    """Tokens of an answer."""
    running: int = 16
    """Answers in one batch."""
    waiting: int = 256
    """Requests in the queue; above it they are refused."""
    grace: float = 30.0
    """Seconds that running answers get to finish after the signal to stop."""
