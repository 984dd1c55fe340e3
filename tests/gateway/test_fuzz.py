"""Whatever is sent, the server answers as its own OpenAPI document says, and never with a defect of its own."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from httpx2 import Response

from luthier.gateway.limits import Limits
from tests.gateway.drawn import Case, cases

CANNOT_BE_SAID = (
    "prompt",
    "message",
    "send one of them",
)  # what a schema cannot say of a request, and its refusal names


@pytest.mark.parametrize("count", [250, pytest.param(2500, marks=pytest.mark.slow)])
def test_no_request_breaks_the_server(open_house, count):
    house = open_house(Limits(tokens=4, body=1 << 15))
    document, found = house.client.get("/openapi.json").json(), Counter()
    for case in cases(document, count, seed=count):
        reply = house.client.request(case.method, case.path, content=case.content, headers=case.headers)
        assert wrong(case, reply, document) is None, (wrong(case, reply, document), case, reply.text[:500])
        found[case.allowed, reply.status_code] += 1
    allowed = sum(n for (of_document, _), n in found.items() if of_document)
    assert sum(found.values()) == count and allowed > 0.4 * count
    assert found[True, 200] > 0.4 * allowed, found  # the others are what a schema cannot say
    assert {400, 404, 405, 413, 415} <= {status for _, status in found}
    body = {"model": house.models[0], "prompt": "What is", "max_tokens": 4}
    said = house.client.post("/v1/completions", json=body).json()["choices"][0]["text"]
    assert said == house.alone(house.models[0], "What is", max_new_tokens=4)
    assert house.empties()


def wrong(case: Case, reply: Response, document: dict) -> str | None:
    """What the document does not say of this answer; None where all is as it says."""
    operation = case.operation
    known = {404, 405} if operation is None else {int(status) for status in operation["responses"]}
    if operation is None and case.method == "HEAD":
        known |= {200}
    if reply.status_code >= 500 or reply.status_code not in known:
        return f"status {reply.status_code}"
    if not reply.headers.get("x-request-id", "").startswith("req_"):
        return "no id"
    if case.method == "HEAD":
        return None
    if reply.status_code == 200:
        return _not_whole(reply)
    error = reply.json()["error"]
    fields = document["components"]["schemas"]["Error"]["properties"]["error"]["required"]
    if set(error) != set(fields) or not error["message"]:
        return "the error's form"
    if case.allowed and reply.status_code == 400 and not any(w in error["message"].lower() for w in CANNOT_BE_SAID):
        return "refused what the document allows"
    return None


def _not_whole(reply: Response) -> str | None:
    """Whether a stream lacks its end, or something else is no JSON."""
    if reply.headers["content-type"].startswith("text/event-stream"):
        *events, end = reply.text.strip().split("\n\n")
        broken = any("error" in json.loads(event.removeprefix("data: ")) for event in events)
        return "the stream broke off" if broken or end != "data: [DONE]" else None
    if reply.headers["content-type"].startswith("application/json"):
        reply.json()
    return None
