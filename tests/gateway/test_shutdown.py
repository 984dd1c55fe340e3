"""SIGTERM finishes what runs, refuses the rest with 503, and the process ends well."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from httpx2 import Client, RemoteProtocolError, WriteError

from luthier.gateway import body, gate
from luthier.gateway.limits import Limits

ROOT = Path(__file__).parents[2]


@contextmanager
def process(run: Path, *options: str) -> Iterator[tuple[subprocess.Popen, str]]:
    """The served run in a process of its own, and its address."""
    command = [sys.executable, "-m", "tests.gateway.slowly", str(run), "--port", "0", "--json", *options]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT, env={**os.environ}) as started:
        try:
            said = ""
            while not (found := re.search(r"http://\S+(?=/v1)", said)):
                line = started.stderr.readline()
                assert line, said
                said += line
            yield started, found.group()
        finally:
            started.kill()


class Stream(threading.Thread):
    """A stream that is read in the background."""

    def __init__(self, url: str, model: str, tokens: int) -> None:
        super().__init__(daemon=True)
        self.url, self.body = url, {"model": model, "prompt": "What is", "max_tokens": tokens, "stream": True}
        self.began, self.text, self.finish, self.error, self.status = threading.Event(), "", None, None, 0
        self.start()

    def run(self) -> None:
        with suppress(RemoteProtocolError), Client(timeout=60) as client:
            self._read(client)

    def _read(self, client: Client) -> None:
        with client.stream("POST", f"{self.url}/v1/completions", json=self.body) as reply:
            self.status = reply.status_code
            for line in reply.iter_lines():
                if line.startswith("data: {"):
                    event = json.loads(line.removeprefix("data: "))
                    self.error = event.get("error")
                    if self.error is None:
                        self.text += event["choices"][0]["text"]
                        self.finish = event["choices"][0]["finish_reason"]
                        self.began.set()


def model_of(url: str) -> str:
    with Client() as client:
        return client.get(f"{url}/v1/models").json()["data"][0]["id"]


def test_what_runs_is_finished_and_the_rest_refused(run, house):
    with process(run, "--batch", "2", "--queue", "4") as (server, url):
        name = model_of(url)
        running = [Stream(url, name, 40) for _ in range(2)]
        assert all(stream.began.wait(20) for stream in running)
        waiting = Stream(url, name, 40)
        time.sleep(0.3)
        server.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with Client() as client:
            late = client.post(f"{url}/v1/completions", json={"model": name, "prompt": "x", "max_tokens": 1})
            assert late.status_code == 503 and int(late.headers["retry-after"]) > 0
            assert late.json()["error"]["code"] == "shutting_down"
            assert client.get(f"{url}/health").status_code == 503
        for stream in running:
            stream.join(20)
            assert stream.finish == "length" and stream.error is None
            assert stream.text == house.alone(house.models[0], "What is", max_new_tokens=40)
        waiting.join(20)
        assert waiting.status == 503
        out, _ = server.communicate(timeout=20)
    assert server.returncode == 0
    document = json.loads(out)
    assert document["status"] == "stopped" and document["refused"] == 1


def test_a_port_that_is_taken_is_told(run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "luthier", "serve", str(run), "--port", port, "--json"]
        ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert ran.returncode == 2 and "choose another --port" in json.loads(ran.stdout)["error"]["message"]


@pytest.fixture
def slow(open_house):
    """A server in this process, whose first model takes a quarter of a second for a token."""

    def start(**limits):
        house = open_house(Limits(**limits))
        model = house.service.served.find(house.models[0]).model
        hooks.append(model.register_forward_pre_hook(lambda *arguments: time.sleep(0.25)))
        stream = Stream(house.url, house.models[0], 70)  # seventeen seconds
        assert stream.began.wait(20)
        return house, stream

    hooks: list = []
    yield start
    for hook in hooks:
        hook.remove()


def test_after_the_grace_what_still_runs_is_cancelled(slow):
    house, stream = slow(grace=0.5)
    start = time.monotonic()
    house.server.stop()
    stream.join(20)
    house.thread.join(20)
    assert not house.thread.is_alive() and time.monotonic() - start < 8
    assert stream.finish is None and stream.error["code"] == "shutting_down" and stream.text
    assert house.empties()


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_the_engine_closes_before_is_told_to_come_again(slow, stream):
    """The gate lets it in, and the engine closes while it waits, or just before it comes."""
    house, running = slow(running=1)
    body = {"model": house.models[0], "prompt": "x", "max_tokens": 1, "stream": stream}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(house.client.post, "/v1/completions", json=body)
        while not house.service.engine.waiting:
            time.sleep(0.01)
        house.service.engine.close(finish=False)
        replies = [waiting.result(20), house.client.post("/v1/completions", json=body)]
    assert not house.service.gate.closed
    for reply in replies:
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "shutting_down")
        assert reply.json()["error"]["type"] == "server_error" and int(reply.headers["retry-after"]) > 0
    running.join(20)
    assert running.error["code"] == "shutting_down" and house.empties()


def test_a_second_signal_ends_it_at_once(slow):
    house, _ = slow()
    start = time.monotonic()
    house.server.stop()
    time.sleep(0.5)
    assert house.thread.is_alive()
    house.server.stop()
    house.thread.join(20)
    assert not house.thread.is_alive() and time.monotonic() - start < 8


def test_a_client_that_never_sends_its_body_does_not_hold_the_server(open_house, monkeypatch):
    monkeypatch.setattr(gate, "PATIENCE", 0.3)
    house = open_house(Limits(grace=0.2))
    port = int(house.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port)) as idle:
        head = "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        idle.sendall(f"{head}Content-Length: 9\r\n\r\n".encode())
        while house.service.gate.idle:
            time.sleep(0.01)
        house.server.stop()
        house.thread.join(10)
        assert not house.thread.is_alive()


def test_a_body_that_takes_too_long_is_refused(house, monkeypatch):
    monkeypatch.setattr(body, "SECONDS", 0.2)

    def slowly():
        yield b"{"
        time.sleep(1)
        yield b"}"

    headers = {"content-type": "application/json"}
    with suppress(WriteError):
        assert house.client.post("/v1/completions", content=slowly(), headers=headers).status_code == 408
    assert house.empties()
