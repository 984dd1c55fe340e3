"""The two kinds of answer, and how OpenAI writes each: chat completions and completions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from luthier.core.records import Message
from luthier.gateway.requests import Asked, ChatRequest, CompletionRequest
from luthier.generation.prompts import Prompts

ROLES = {"developer": "system"}  # OpenAI's newer name


@dataclass(frozen=True)
class Kind:
    """How one kind of request is read and its answer written.

    `delta` makes a stream's choice of a text (None: of nothing more) and a finish reason (None: not yet).
    """

    name: str
    asked: type[Asked]
    reads: str  # the parameter that holds the prompt
    prefix: str  # of an answer's id
    object: str
    chunk: str  # the object of a stream's pieces
    opens: bool  # whether a stream begins with an empty piece
    trims: bool  # whether white space before the answer is no part of it
    ids: Callable[[Prompts, Any], list[int]]
    said: Callable[[Any], str]  # the request's text, for those who opted in to record it
    whole: Callable[[str, str], dict[str, Any]]
    delta: Callable[[str | None, str | None], dict[str, Any]]


def _chat_ids(prompts: Prompts, asked: ChatRequest) -> list[int]:
    return prompts.chat([Message(ROLES.get(m.role, m.role), m.text) for m in asked.messages])


def _chat_said(asked: ChatRequest) -> str:
    return "\n".join(f"{message.role}: {message.text}" for message in asked.messages)


def _chat_whole(text: str, finish: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None}
    return {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}


def _chat_delta(text: str | None, finish: str | None) -> dict[str, Any]:
    delta = {} if text is None else {"content": text} if text else {"role": "assistant", "content": ""}
    return {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}


def _completion_ids(prompts: Prompts, asked: CompletionRequest) -> list[int]:
    return prompts.text(asked.text)


def _completion_whole(text: str, finish: str | None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}


CHAT = Kind(
    name="chat",
    asked=ChatRequest,
    reads="messages",
    prefix="chatcmpl-",
    object="chat.completion",
    chunk="chat.completion.chunk",
    opens=True,
    trims=True,
    ids=_chat_ids,
    said=_chat_said,
    whole=_chat_whole,
    delta=_chat_delta,
)
COMPLETION = Kind(
    name="completion",
    asked=CompletionRequest,
    reads="prompt",
    prefix="cmpl-",
    object="text_completion",
    chunk="text_completion",
    opens=False,
    trims=False,
    ids=_completion_ids,
    said=lambda asked: asked.text,
    whole=_completion_whole,
    delta=lambda text, finish: _completion_whole(text or "", finish),
)
