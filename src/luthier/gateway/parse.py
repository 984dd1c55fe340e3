"""From a body's bytes to a request, with errors that name the parameter and what to write instead."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from luthier.core.errors import did_you_mean
from luthier.gateway.errors import ApiError, invalid
from luthier.gateway.requests import HARMLESS, NEUTRAL, UNSUPPORTED, Asked

Model = TypeVar("Model", bound=BaseModel)


def parse(body: bytes, model: type[Model]) -> Model:
    """The request that a body makes; raises `ApiError` (400) for anything else."""
    try:
        values = from_json(body, allow_inf_nan=False)
    except ValueError as error:  # also for what is nested too deep, not UTF-8, or holds half a surrogate pair
        raise invalid(f"The body is not JSON ({error}).") from None
    if not isinstance(values, dict):
        raise invalid(f"The body is {type(values).__name__}; send a JSON object.")
    if issubclass(model, Asked):
        values = _without_neutral(values)
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise _refusal(error, model) from None


def _without_neutral(values: dict[str, Any]) -> dict[str, Any]:
    """The values that are carried out; raises where another one would change the answer."""
    kept = {}
    for name, value in values.items():
        if name in NEUTRAL:
            allowed, advice = NEUTRAL[name]
            if not any(_same(value, neutral) for neutral in allowed):
                message = f"'{name}' is not supported here and would change the answer: {advice}."
                raise invalid(message, param=name, code=UNSUPPORTED)
        elif name not in HARMLESS:
            kept[name] = value
    return kept


def _same(value: Any, neutral: Any) -> bool:
    """Whether two JSON values are equal; True is not 1."""
    return value == neutral and isinstance(value, bool) == isinstance(neutral, bool)


def _refusal(error: ValidationError, model: type[BaseModel]) -> ApiError:
    """The first thing that is wrong, as one sentence."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    same = [e for e in found if e["loc"][:1] == found[0]["loc"][:1]]
    # of a union every branch complains: the one that got furthest, or at least took the type, knows best
    first = max(same, key=lambda e: (e["type"] == UNSUPPORTED, len(e["loc"]), not e["type"].endswith("_type")))
    place = _place(first["loc"])
    if first["type"] == "extra_forbidden":
        holder, key = _place(first["loc"][:-1]), str(first["loc"][-1])
        place = f"{holder}.{key}" if holder else key  # as it was sent, also where it looks like pydantic's names
        known = {*model.model_fields, *(NEUTRAL if issubclass(model, Asked) else ())}
        hint = f": {did_you_mean(place, known)}" if len(first["loc"]) == 1 else "."
        return invalid(f"Unrecognized request argument supplied: {place[:100]}{hint}", param=place[:100])
    if first["type"] == "missing":
        return invalid(f"Missing required parameter: '{place}'.", param=place)
    code = UNSUPPORTED if first["type"] == UNSUPPORTED else None
    return invalid(f"Invalid value for '{place}': {first['msg']}.", param=place, code=code)


def _place(loc: tuple[int | str, ...]) -> str:
    """`messages[0].content` without pydantic's names of a union's branches."""
    place = ""
    for part in loc:
        if isinstance(part, int):
            place += f"[{part}]"
        elif "[" not in part and "(" not in part and part not in ("str", "constrained-str", "none", "TextPart"):
            place += f".{part}" if place else part
    return place
