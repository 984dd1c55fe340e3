"""What a request may say: bounded fields, and those of OpenAI's parameters that are known but not carried out.

A parameter that would change the answer and is not supported is refused with advice, never ignored; its neutral value
(`n: 1`, `tools: []`) is accepted, and so are parameters that change nothing in the answer (`user`, `metadata`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

UNSUPPORTED = "unsupported_parameter"
"""The code of what would change the answer and is not carried out."""

NEUTRAL: dict[str, tuple[tuple[Any, ...], str]] = {
    "n": ((None, 1), "send one request for each answer"),
    "best_of": ((None, 1), "send one request for each answer"),
    "frequency_penalty": ((None, 0), "use repetition_penalty"),
    "presence_penalty": ((None, 0), "use repetition_penalty"),
    "logit_bias": ((None, {}), "leave it out"),
    "logprobs": ((None, False), "`luthier evaluate` measures probabilities"),
    "top_logprobs": ((None, 0), "`luthier evaluate` measures probabilities"),
    "response_format": ((None, {"type": "text"}), "describe the format in the prompt, or train the model on it"),
    "tools": ((None, []), "describe the tools in the system message"),
    "tool_choice": ((None, "none", "auto"), "describe the tools in the system message"),
    "functions": ((None, []), "describe the functions in the system message"),
    "function_call": ((None, "none", "auto"), "describe the functions in the system message"),
    "modalities": ((None, ["text"]), "these models read and write text"),
    "audio": ((None,), "these models read and write text"),
    "prediction": ((None,), "leave it out"),
    "reasoning_effort": ((None,), "leave it out"),
    "verbosity": ((None,), "say in the prompt how long the answer should be"),
    "web_search_options": ((None,), "put what was found into the prompt"),
    "echo": ((None, False), "put the prompt before the answer yourself"),
    "suffix": ((None,), "put everything into the prompt"),
    "store": ((None, False), "start the server with --record content to keep texts"),
}
"""Parameters that only their neutral values leave without effect: those values, and what to do instead of others."""

HARMLESS = (
    "user",
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "parallel_tool_calls",
)
"""Parameters that change nothing in the answer, whatever they say."""


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


def _only_text(kind: Any) -> Any:
    """Refuses a part of a message that is an image, a sound or a file."""
    if isinstance(kind, str) and kind != "text":
        raise PydanticCustomError(UNSUPPORTED, "this model reads text only; send parts of the type 'text'")
    return kind


class TextPart(_Body):
    """A piece of a message's text."""

    type: Annotated[Literal["text"], BeforeValidator(_only_text)]
    text: str


class ChatMessage(_Body):
    """One turn; what else a client sends back of an earlier answer must be empty."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(min_length=1, max_length=256)]
    name: Annotated[str, Field(max_length=64)] | None = None
    """Accepted; changes nothing in the answer."""
    refusal: None = None
    audio: None = None
    function_call: None = None
    tool_calls: Annotated[list[Any], Field(max_length=0)] | None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None

    @property
    def text(self) -> str:
        """What the turn says."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(_Body):
    """What a stream tells beside the text."""

    include_usage: bool | None = None
    """A last chunk with the tokens used."""
    include_obfuscation: bool | None = None
    """Accepted; nothing is obfuscated."""


def _whole(value: Any) -> Any:
    """2.0 as 2: in JSON, and in JSON Schema, they are the same number."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


StopText = Annotated[str, Field(min_length=1, max_length=256)]
# the bounds come first: behind a validator pydantic leaves them out of the JSON Schema
Tokens = Annotated[int, Field(ge=1, le=1 << 24), BeforeValidator(_whole)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63), BeforeValidator(_whole)]


class Asked(_Body):
    """What both kinds of request have in common."""

    model: Annotated[str, Field(min_length=1, max_length=256)]
    """A name that GET /v1/models lists."""
    max_tokens: Tokens | None = None
    """Most tokens of the answer."""
    temperature: Annotated[float, Field(ge=0, le=2, allow_inf_nan=False)] | None = None
    """0, the default, takes the most probable token, as the evaluation does; higher values draw more freely."""
    top_p: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    """Draw from the most probable tokens that together have this probability."""
    top_k: Tokens | None = None
    """Draw from this many of the most probable tokens."""
    repetition_penalty: Annotated[float, Field(ge=0.1, le=10, allow_inf_nan=False)] | None = None
    """Above 1: tokens that were said already become less probable."""
    seed: Seed | None = None
    """The same seed and request draw the same answer."""
    stop: StopText | Annotated[list[StopText], Field(max_length=4)] | None = None
    """Texts that end the answer; they are not part of it."""
    stream: bool | None = None
    """Answer piece by piece, as server-sent events."""
    stream_options: StreamOptions | None = None

    @property
    def most(self) -> int | None:
        """The longest answer that was asked for, in tokens."""
        return self.max_tokens

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end the answer."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def usage_wanted(self) -> bool:
        """Whether a stream ends with the tokens used."""
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(Asked):
    """POST /v1/chat/completions."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=2048)]
    max_completion_tokens: Tokens | None = None
    """Most tokens of the answer; OpenAI's newer name of max_tokens. Where both are sent they must be the same."""

    @field_validator("max_completion_tokens")
    @classmethod
    def _one_limit(cls, value: int | None, info: ValidationInfo) -> int | None:
        other = info.data.get("max_tokens")
        if value is not None and other is not None and value != other:
            raise PydanticCustomError("two_limits", "it differs from max_tokens; send one of them")
        return value

    @property
    def most(self) -> int | None:
        """The longest answer that was asked for, in tokens."""
        return self.max_completion_tokens or self.max_tokens


def _one_text(prompt: Any) -> Any:
    """Refuses what OpenAI takes for a prompt beside one text."""
    if isinstance(prompt, list) and prompt:
        if all(type(part) in (int, list) for part in prompt):
            raise PydanticCustomError(UNSUPPORTED, "token ids are not supported; send text")
        if len(prompt) > 1:
            raise PydanticCustomError(UNSUPPORTED, "send one request for each prompt")
    return prompt


class CompletionRequest(Asked):
    """POST /v1/completions."""

    prompt: Annotated[str | Annotated[list[str], Field(min_length=1, max_length=1)], BeforeValidator(_one_text)]
    """The whole prompt, one text; it is gone on with as it stands, without a chat template."""

    @property
    def text(self) -> str:
        """The prompt."""
        return self.prompt if isinstance(self.prompt, str) else self.prompt[0]


class FeedbackRequest(_Body):
    """POST /v1/feedback."""

    id: Annotated[str, Field(min_length=1, max_length=64)]
    """The id of an answer of this server."""
    rating: Literal["up", "down"]
    comment: Annotated[str, Field(max_length=2000)] | None = None
    """Why; it is stored as it is."""


def schema_of(model: type[BaseModel], names: Sequence[str], tokens: int) -> dict[str, Any]:
    """The JSON Schema of a request to a server of these models and longest answer.

    It shows the parameters, too, that are accepted without being carried out.
    """
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    if issubclass(model, Asked):
        properties = schema["properties"]
        properties["model"] = {"enum": list(names), "description": "What GET /v1/models lists."}
        for name in ("max_tokens", "max_completion_tokens"):
            if name in properties:
                properties[name]["anyOf"][0]["maximum"] = tokens
        for name, (values, advice) in NEUTRAL.items():
            properties[name] = {"enum": list(values), "description": f"Not supported otherwise: {advice}."}
        for name in HARMLESS:
            properties[name] = {"description": "Accepted; changes nothing in the answer."}
    return schema
