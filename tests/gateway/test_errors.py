"""What is refused: with which status, in OpenAI's words, and with what to do instead."""

from __future__ import annotations

import json

import pytest

USER = [{"role": "user", "content": "What is 3 plus one?"}]


def refused(house, body, path="/v1/chat/completions", **options) -> tuple[int, dict]:
    content = body if isinstance(body, bytes) else json.dumps({"model": house.models[0], **body}).encode()
    headers = {"content-type": "application/json", **options}
    response = house.client.post(path, content=content, headers=headers)
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"} and error["message"]
    return response.status_code, error


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"", None, "not JSON"),
        (b"[1]", None, "send a JSON object"),
        (b"{" * 5000, None, "not JSON"),
        (b"[" * 500_000, None, "recursion"),
        (b'{"model": "\xff"}', None, "not JSON"),
        (b'{"model": "\\ud800"}', None, "not JSON"),
        (b'{"temperature": NaN}', None, "not JSON"),
        ({}, "messages", "Missing required parameter: 'messages'"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role", "'user' or 'assistant'"),
        ({"messages": [{"role": "user", "content": None}]}, "messages[0].content", "valid string"),
        ({"messages": [{**USER[0], "nmae": "x"}]}, "messages[0].nmae", "Unrecognized request argument"),
        ({"messages": [{**USER[0], "a[b]": "x"}]}, "messages[0].a[b]", "supplied: messages[0].a[b]."),
        ({"messages": [{**USER[0], "name": "x" * 65}]}, "messages[0].name", "at most 64 characters"),
        ({"messages": USER, "temperature": 2.1}, "temperature", "less than or equal to 2"),
        ({"messages": USER, "temperature": "1"}, "temperature", "valid number"),
        ({"messages": USER, "top_p": 0}, "top_p", "greater than 0"),
        ({"messages": USER, "max_tokens": 0}, "max_tokens", "greater than or equal to 1"),
        (
            {"messages": USER, "max_tokens": 4, "max_completion_tokens": 5},
            "max_completion_tokens",
            "send one of them",
        ),
        ({"messages": USER, "max_tokens": True}, "max_tokens", "valid integer"),
        ({"messages": USER, "seed": 2**63}, "seed", "less than"),
        ({"messages": USER, "stop": ["a"] * 5}, "stop", "at most 4"),
        ({"messages": USER, "stop": [""]}, "stop[0]", "at least 1 character"),
        ({"messages": USER, "temprature": 1}, "temprature", "did you mean 'temperature'?"),
        ({"messages": USER, "n": 2}, "n", "one request for each answer"),
        ({"messages": USER, "n": True}, "n", "one request for each answer"),
        ({"messages": USER, "logprobs": True}, "logprobs", "not supported"),
        ({"messages": USER, "tools": [{"type": "function"}]}, "tools", "system message"),
        ({"messages": USER, "tool_choice": "required"}, "tool_choice", "system message"),
        ({"messages": USER, "response_format": {"type": "json_object"}}, "response_format", "in the prompt"),
        ({"messages": USER, "frequency_penalty": 0.5}, "frequency_penalty", "repetition_penalty"),
        ({"messages": USER, "reasoning_effort": "high"}, "reasoning_effort", "leave it out"),
    ],
)
def test_a_wrong_request_is_told_what_to_write(house, body, param, words):
    status, error = refused(house, body)
    assert (status, error["type"], error["param"]) == (400, "invalid_request_error", param)
    assert words in error["message"]


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "file", "refusal"])
def test_a_part_that_is_no_text_is_not_supported(house, kind):
    parts = [{"type": "text", "text": "What is this?"}, {"type": kind, kind: {"url": "data:,"}}]
    status, error = refused(house, {"messages": [{"role": "user", "content": parts}]})
    assert (status, error["code"], error["param"]) == (400, "unsupported_parameter", "messages[0].content[1].type")
    assert "reads text only" in error["message"]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        (["one", "two"], "send one request for each prompt"),
        ([1, 2, 3], "token ids are not supported; send text"),
        ([[1, 2], [3]], "token ids are not supported; send text"),
    ],
)
def test_a_prompt_that_is_not_one_text_is_not_supported(house, prompt, words):
    status, error = refused(house, {"prompt": prompt}, "/v1/completions")
    assert (status, error["code"], error["param"]) == (400, "unsupported_parameter", "prompt")
    assert words in error["message"]


def test_messages_that_the_model_was_not_trained_for_are_refused_with_advice(house):
    turns = [*USER, {"role": "assistant", "content": "4"}, *USER]
    status, error = refused(house, {"messages": turns})
    assert status == 400 and "one user message" in error["message"]
    status, error = refused(house, {"messages": turns[:2]})
    assert status == 400 and "last message must be the user's" in error["message"]


def test_prompt_and_answer_must_fit_the_context(house):
    context = house.service.served.context
    fits = context - len(house.ids(house.models[0], "What"))
    body = {"model": house.models[0], "prompt": "What", "max_tokens": fits}
    assert house.client.post("/v1/completions", json=body).status_code == 200
    status, error = refused(house, {"prompt": "What", "max_tokens": fits + 1}, "/v1/completions")
    assert (status, error["code"], error["param"]) == (400, "context_length_exceeded", "prompt")
    assert f"the answer may have {fits + 1}" in error["message"] and "lower max_tokens" in error["message"]
    status, error = refused(house, {"prompt": ""}, "/v1/completions")
    assert status == 400


@pytest.mark.parametrize("more", [{}, {"max_tokens": 5}])
def test_a_prompt_that_is_too_long_by_itself_is_to_be_shortened(house, more):
    """No shorter answer would help, so none is spoken of."""
    context, text = house.service.served.context, "x" * 500
    asked = {"prompt": {"prompt": text}, "messages": {"messages": [{"role": "user", "content": text}]}}
    for param, path in (("prompt", "/v1/completions"), ("messages", "/v1/chat/completions")):
        status, error = refused(house, {**asked[param], **more}, path)
        assert (status, error["code"], error["param"]) == (400, "context_length_exceeded", param)
        tokens = len(house.ids(house.models[0], text, chat=param == "messages"))
        assert f"has {tokens} tokens" in error["message"] and f"at most {context}:" in error["message"]
        assert "max_tokens" not in error["message"]


def test_virtual_tokens_count_towards_the_context(house):
    name, context = next(model for model in house.models if model.endswith("/prompt")), house.service.served.context
    fits = context - len(house.ids(name, "What")) - 4
    assert refused(house, {"model": name, "prompt": "What", "max_tokens": fits + 1}, "/v1/completions")[0] == 400
    body = {"model": name, "prompt": "What", "max_tokens": fits}
    assert house.client.post("/v1/completions", json=body).json()["usage"]["completion_tokens"] <= fits


def test_what_is_not_there_is_404(house):
    status, error = refused(house, {"model": "gpt-5", "messages": USER})
    assert (status, error["code"], error["param"]) == (404, "model_not_found", "model")
    assert house.models[0] in error["message"]
    for path in ("/v1/models/gpt-5", "/v1/nothing", "/", "/docs", "/v1/models/"):
        response = house.client.get(path)
        assert response.status_code == 404 and response.json()["error"]["type"] == "invalid_request_error", path
    response = house.client.delete("/v1/models")
    assert response.status_code == 405 and "GET" in response.headers["allow"]


def test_a_body_over_the_limit_is_413_and_another_type_415(house):
    limit = house.service.limits.body
    for size in (limit + 1, limit * 3):
        status, error = refused(house, b'{"a": "' + b"x" * size)
        assert (status, error["code"]) == (413, "request_too_large") and "--max-body" in error["message"]
    status, error = refused(house, {"messages": USER}, **{"content-type": "text/plain"})
    assert status == 415 and "application/json" in error["message"]


def test_a_body_in_chunks_without_a_length_is_limited_too(house):
    def chunks():
        for _ in range(40):
            yield b"x" * 65_536

    headers = {"content-type": "application/json"}
    response = house.client.post("/v1/completions", content=chunks(), headers=headers)
    assert response.status_code == 413


def test_a_defect_is_told_without_its_details(house, monkeypatch):
    class Broken(KeyError):
        pass

    def submit(*arguments):
        raise Broken("a secret")

    monkeypatch.setattr(house.service.engine, "submit", submit)
    status, error = refused(house, {"messages": USER})
    assert (status, error["type"]) == (500, "server_error") and "secret" not in json.dumps(error)
    monkeypatch.undo()
    assert house.empties()
    assert house.client.post(
        "/v1/completions", json={"model": house.models[0], "prompt": "x", "max_tokens": 1}
    ).is_success


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_that_breaks_in_the_engine_is_an_error_and_the_next_one_is_whole(house, stream):
    name = house.models[0]
    expected = house.alone(name, "What", max_new_tokens=6)
    model = house.service.served.find(name).model
    calls = []

    def break_down(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise RuntimeError("out of memory, said the secret allocator")

    hook = model.register_forward_pre_hook(break_down)
    body = {"model": name, "prompt": "What", "max_tokens": 6, "stream": stream}
    response = house.client.post("/v1/completions", json=body)
    hook.remove()
    assert "secret" not in response.text
    if stream:  # the status was out already
        *_, last = [line for line in response.text.split("\n\n") if line]
        assert response.status_code == 200
        assert json.loads(last.removeprefix("data: "))["error"]["type"] == "server_error"
    else:
        assert response.status_code == 500
    body["stream"] = False
    assert house.client.post("/v1/completions", json=body).json()["choices"][0]["text"] == expected
    assert house.empties()
