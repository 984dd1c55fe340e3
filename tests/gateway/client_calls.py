"""What OpenAI's own client makes of the server: run with one of its majors on the path, prints JSON.

`python client_calls.py URL KEY MODEL BUSY_MODEL`; the second model is too busy to answer.
"""

from __future__ import annotations

import json
import sys

import openai

url, key, model = sys.argv[1:4]
client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
messages = [{"role": "user", "content": "What is 3 plus one?"}]


def refused(call) -> list:
    """The typed exception that a call raises, and what it carries."""
    try:
        call()
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.code, error.param, error.request_id[:4]]
    raise AssertionError("it was answered")


def chat(**more):
    return client.chat.completions.create(model=model, messages=messages, **{"max_tokens": 8, **more})


whole = chat()
streamed = list(chat(stream=True, stream_options={"include_usage": True}))
completed = client.completions.create(model=model, prompt="What is", max_tokens=8)
pieces = list(client.completions.create(model=model, prompt="What is", max_tokens=8, stream=True))
raw = client.chat.completions.with_raw_response.create(model=model, messages=messages, max_tokens=2)
stranger = openai.OpenAI(base_url=f"{url}/v1", api_key="lt-nobody", max_retries=0)
found = {
    "version": openai.__version__,
    "models": [entry.id for entry in client.models.list()],
    "model": client.models.retrieve(model).id,
    "chat": whole.choices[0].message.content,
    "usage": [whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.total_tokens],
    "request_id": whole._request_id[:4],
    "streamed": "".join(c.choices[0].delta.content or "" for c in streamed if c.choices),
    "finish": [c.choices[0].finish_reason for c in streamed if c.choices][-1],
    "stream_usage": [streamed[-1].usage.prompt_tokens, streamed[-1].usage.completion_tokens],
    "completed": completed.choices[0].text,
    "pieces": "".join(piece.choices[0].text for piece in pieces),
    "milliseconds": int(raw.headers["openai-processing-ms"]),
    "extra": chat(extra_body={"top_k": 1, "repetition_penalty": 1.0}).choices[0].message.content,
    "401": refused(lambda: stranger.models.list()),
    "404": refused(lambda: client.models.retrieve("gpt-5")),
    "404 chat": refused(lambda: client.chat.completions.create(model="gpt-5", messages=messages)),
    "400": refused(lambda: chat(temperature=7)),
    "400 tools": refused(lambda: chat(tools=[{"type": "function", "function": {"name": "f"}}])),
    "413": refused(lambda: chat(user="x" * 3_000_000)),
    "429": refused(
        lambda: openai.OpenAI(base_url=f"{sys.argv[4]}/v1", api_key=key, max_retries=0).completions.create(
            model=model, prompt="What is", max_tokens=1
        )
    ),
}
print(json.dumps(found))
