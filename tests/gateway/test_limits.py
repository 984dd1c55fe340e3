"""More requests than may run and wait are refused with 429; a client that leaves frees its place."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from httpx2 import ReadTimeout

from luthier.gateway.limits import Limits


def slowed(house, seconds: float):
    """Every step of the first model takes at least so long."""
    model = house.service.served.find(house.models[0]).model
    return model.register_forward_pre_hook(lambda *arguments: time.sleep(seconds))


def test_more_than_may_wait_are_refused_with_429_and_the_others_are_whole(open_house):
    house = open_house(Limits(running=2, waiting=3))
    expected = house.alone(house.models[0], "What is", max_new_tokens=10)
    hook = slowed(house, 0.1)
    body = {"model": house.models[0], "prompt": "What is", "max_tokens": 10}
    with ThreadPoolExecutor(24) as pool:
        responses = list(pool.map(lambda _: house.client.post("/v1/completions", json=body), range(24)))
    hook.remove()
    answered = [response for response in responses if response.status_code == 200]
    refused = [response for response in responses if response.status_code == 429]
    assert len(answered) + len(refused) == 24 and refused and len(answered) >= 3
    assert all(response.json()["choices"][0]["text"] == expected for response in answered)
    for response in refused:
        assert int(response.headers["retry-after"]) >= 1
        assert response.json()["error"]["code"] == "rate_limit_exceeded"
    assert house.client.post("/v1/completions", json=body).status_code == 200


def test_longer_answers_than_the_server_allows_are_refused(open_house):
    house = open_house(Limits(tokens=5))
    body = {"model": house.models[0], "prompt": "What is", "max_tokens": 6}
    response = house.client.post("/v1/completions", json=body)
    assert response.status_code == 400 and "--max-tokens" in response.json()["error"]["message"]
    for most in (5, None):
        usage = house.client.post("/v1/completions", json={**body, "max_tokens": most}).json()["usage"]
        assert usage["completion_tokens"] == 5


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_place(open_house, stream):
    house = open_house(Limits(running=1))
    hook = slowed(house, 0.05)
    body = {"model": house.models[0], "prompt": "What is", "max_tokens": 70, "stream": stream}
    if stream:
        with house.client.stream("POST", "/v1/completions", json=body) as response:
            next(response.iter_raw())
    else:
        with pytest.raises(ReadTimeout):
            house.client.post("/v1/completions", json=body, timeout=0.4)
    start = time.monotonic()
    while (house.service.engine.running or not house.service.gate.idle) and time.monotonic() - start < 3:
        time.sleep(0.02)
    assert time.monotonic() - start < 1.5  # the whole answer takes three and a half seconds
    hook.remove()
    assert house.client.post("/v1/completions", json={**body, "max_tokens": 1, "stream": False}).is_success
    assert 'finished_reason="abort"' in house.client.get("/metrics").text
