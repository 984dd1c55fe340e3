"""What the server answers is what the engine answers alone, in OpenAI's words."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from luthier.gateway.answer import _trimmed
from luthier.generation.request import Piece

PROMPT = "What is 3 plus one?"


def chunks(response) -> list[dict]:
    """The JSON of a stream's events, the end mark taken off."""
    events = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    return [json.loads(event) for event in events[:-1]]


def ask(house, path="/v1/chat/completions", **body):
    key = {"/v1/completions": {"prompt": PROMPT}}.get(path, {"messages": [{"role": "user", "content": PROMPT}]})
    response = house.client.post(path, json={"model": house.models[0], "max_tokens": 9, **key, **body})
    assert response.status_code == 200, response.text
    return response


def test_every_model_answers_as_the_engine_does_alone(house):
    answers = set()
    for name in house.models:
        body = ask(house, model=name).json()
        expected = house.alone(name, PROMPT, chat=True, max_new_tokens=9)
        assert body["choices"][0]["message"] == {"role": "assistant", "content": expected, "refusal": None}
        assert ask(house, "/v1/completions", model=name).json()["choices"][0]["text"] == house.alone(
            name, PROMPT, max_new_tokens=9
        )
        answers.add(expected)
    assert len(answers) >= 3  # they are different models


def test_the_body_has_openais_fields_and_the_tokens_used(house):
    name = house.models[0]
    body = ask(house, model=name).json()
    prompt = len(house.ids(name, PROMPT, chat=True))
    assert body["usage"] == {"prompt_tokens": prompt, "completion_tokens": 9, "total_tokens": prompt + 9}
    assert (body["object"], body["model"], body["id"][:9]) == ("chat.completion", name, "chatcmpl-")
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["system_fingerprint"] == house.service.origins[name].fingerprint
    assert ask(house, "/v1/completions").json()["object"] == "text_completion"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_stream_makes_up_the_whole_answer(house, path):
    whole = ask(house, path).json()
    response = ask(house, path, stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"].startswith("text/event-stream")
    *pieces, last = chunks(response)
    choices = [piece["choices"][0] for piece in pieces]
    if "chat" in path:
        assert choices[0]["delta"] == {"role": "assistant", "content": ""}
        text = "".join(choice["delta"].get("content", "") for choice in choices)
        assert text == whole["choices"][0]["message"]["content"]
    else:
        assert "".join(choice["text"] for choice in choices) == whole["choices"][0]["text"]
    assert [choice["finish_reason"] for choice in choices] == [None] * (len(choices) - 1) + ["length"]
    assert last["choices"] == [] and last["usage"] == whole["usage"]
    assert len({piece["id"] for piece in [*pieces, last]}) == 1
    assert all(piece["usage"] is None for piece in pieces)


def test_a_stream_tells_the_usage_only_when_asked(house):
    assert all("usage" not in chunk for chunk in chunks(ask(house, stream=True)))


def test_stop_texts_seeds_and_settings_reach_the_engine(house):
    name = "/".join([house.models[0], "full"])
    whole = house.alone(name, PROMPT, max_new_tokens=40)
    stop = next(c for c in whole[2:] if c.isascii() and c.isprintable() and c not in whole[:2])
    body = ask(house, "/v1/completions", model=name, max_tokens=40, stop=[stop, "never said"]).json()
    assert body["choices"][0]["text"] == whole[: whole.index(stop)]
    assert body["choices"][0]["finish_reason"] == "stop"
    drawn = {"temperature": 1.5, "top_k": 50, "top_p": 0.9, "seed": 11, "repetition_penalty": 1.3}
    body = ask(house, "/v1/completions", model=name, **drawn).json()
    assert body["choices"][0]["text"] == house.alone(name, PROMPT, max_new_tokens=9, **drawn)
    assert body["choices"][0]["text"] != house.alone(name, PROMPT, max_new_tokens=9)


def test_message_parts_and_roles_are_read_as_their_plain_forms(house):
    parts = [{"type": "text", "text": PROMPT[:5]}, {"type": "text", "text": PROMPT[5:]}]
    plain = ask(house).json()
    assert ask(house, messages=[{"role": "user", "content": parts}]).json()["choices"] == plain["choices"]
    named = {"role": "user", "content": PROMPT, "name": "n" * 64}
    assert ask(house, messages=[named], max_completion_tokens=9).json()["choices"] == plain["choices"]
    turns = [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": PROMPT}]
    system = [{**turns[0], "role": "system"}, turns[1]]
    assert ask(house, messages=turns).json()["choices"] == ask(house, messages=system).json()["choices"]
    assert ask(house, messages=turns).json()["usage"] != plain["usage"]


def test_neutral_and_harmless_parameters_change_nothing(house):
    neutral = {"n": 1, "logprobs": False, "tools": [], "frequency_penalty": 0.0, "presence_penalty": 0, "user": "u"}
    more = {
        "response_format": {"type": "text"},
        "metadata": {"a": "b"},
        "store": False,
        "logit_bias": {},
        "seed": None,
    }
    assert ask(house, **neutral, **more).json()["choices"] == ask(house).json()["choices"]


def test_without_max_tokens_the_answer_fills_what_the_context_leaves(house):
    context, prompt = house.service.served.context, len(house.ids(house.models[0], PROMPT, chat=True))
    usage = ask(house, max_tokens=None).json()["usage"]
    assert prompt < usage["total_tokens"] <= context
    assert ask(house, max_tokens=None, max_completion_tokens=2).json()["usage"]["completion_tokens"] == 2


def test_a_hundred_streams_at_once_are_each_what_they_are_alone(house):
    jobs = [(house.models[i % len(house.models)], f"What is {i} plus one?") for i in range(100)]

    def stream(job) -> str:
        body = {"model": job[0], "prompt": job[1], "max_tokens": 12, "stream": True}
        return "".join(c["choices"][0]["text"] for c in chunks(house.client.post("/v1/completions", json=body)))

    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(stream, jobs))
    assert answers == [house.alone(model, prompt, max_new_tokens=12) for model, prompt in jobs]
    assert house.empties() and len(set(answers)) > 20


def test_models_are_listed_and_found_by_names_with_slashes(house):
    listed = house.client.get("/v1/models").json()
    assert [model["id"] for model in listed["data"]] == list(house.service.served.names)
    assert sum("/" in model["id"] for model in listed["data"]) == 3
    for model in listed["data"]:
        assert house.client.get(f"/v1/models/{model['id']}").json() == model
        assert house.client.get(f"/v1/models/{model['id'].replace('/', '%2F')}").json() == model
        assert model["object"] == "model" and len(model["lineage"]["weights"]) == 64
    assert len({model["lineage"]["weights"] for model in listed["data"]}) == 4


def test_every_answer_has_an_id_and_its_time(house):
    responses = [house.client.get("/health"), house.client.get("/v1/nothing"), ask(house), ask(house, stream=True)]
    ids = {response.headers["x-request-id"] for response in responses}
    assert len(ids) == 4 and all(id.startswith("req_") and len(id) == 36 for id in ids)
    assert all(int(response.headers["openai-processing-ms"]) >= 0 for response in responses)


def test_white_space_before_an_answer_is_no_part_of_it():
    async def came():
        for text in (" ", "\n ", " 3 +", " 4 "):
            yield Piece(text, 1)

    async def read() -> list[str]:
        return [piece.text async for piece in _trimmed(came())]

    assert asyncio.run(read()) == ["", "", "3 +", " 4 "]
