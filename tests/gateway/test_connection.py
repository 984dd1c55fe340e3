"""A connection over which no whole request comes is closed; one over which an answer goes is not."""

from __future__ import annotations

import json
import socket
import time
from itertools import repeat

import pytest

from luthier.gateway import connection
from tests.gateway.test_limits import slowed

LIMIT = 0.4
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"


@pytest.fixture
def dial(house, monkeypatch):
    """Opens connections to a server that waits for so long."""
    monkeypatch.setattr(connection, "SECONDS", LIMIT)
    opened: list[socket.socket] = []

    def connect() -> socket.socket:
        opened.append(socket.create_connection(("127.0.0.1", int(house.url.rpartition(":")[2])), timeout=10))
        return opened[-1]

    yield connect
    for one in opened:
        one.close()


def seconds_open(one: socket.socket) -> float:
    """How long it takes until the server closes."""
    start = time.monotonic()
    while one.recv(1 << 16):
        pass
    return time.monotonic() - start


@pytest.mark.parametrize("begun", [b"", b"G", HEALTH + b"X-A: "])
def test_a_request_that_never_comes_closes_its_connection(dial, begun):
    one = dial()
    one.sendall(begun)
    assert LIMIT / 2 < seconds_open(one) < 3


def test_a_head_that_comes_byte_by_byte_is_closed_too(dial):
    one, start = dial(), time.monotonic()
    one.sendall(HEALTH + b"X-A: ")
    with pytest.raises(OSError):
        for letter in repeat(b"a"):
            one.sendall(letter)
            time.sleep(0.02)
            assert time.monotonic() - start < 3


def test_after_an_answer_the_next_head_has_the_same_time(dial):
    one = dial()
    for _ in range(4):  # together longer than one head may take
        time.sleep(LIMIT / 2)
        one.sendall(HEALTH + b"\r\n")
        said = b""
        while b"ok" not in said:
            said += (piece := one.recv(1 << 16))
            assert piece
    one.sendall(HEALTH)
    assert LIMIT / 2 < seconds_open(one) < 3


@pytest.mark.parametrize("earlier", [b"", HEALTH + b"\r\n"])
def test_bodies_and_answers_may_take_longer(house, dial, earlier):
    """Also where both requests lie in the buffer at once."""
    hook = slowed(house, 0.05)
    asked = {"model": house.models[0], "prompt": "What is", "max_tokens": 30, "stream": True}
    body = json.dumps(asked).encode()
    head = (
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close\r\n"
    )
    one = dial()
    one.sendall(earlier + f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:5])
    time.sleep(2 * LIMIT)
    one.sendall(body[5:])
    said = b""
    while piece := one.recv(1 << 16):
        said += piece
    hook.remove()
    assert b"data: [DONE]" in said and said.count(b"HTTP/1.1 200") == 1 + bool(earlier)
