"""Pydantic's problems as sentences: where, what is wrong, what to write instead."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from luthier.core.errors import UserError, did_you_mean, masked
from luthier.recipe.describe import describe
from luthier.recipe.values import Named

Loc = tuple[int | str, ...]


class KeyedError(ValueError):
    """Problems found below a key that pydantic itself does not see, such as a variant's."""

    def __init__(self, key: tuple[str, ...], error: ValidationError, model: type[BaseModel]) -> None:
        super().__init__(".".join(key))
        self.key, self.error, self.model = key, error, model


def refuse(error: ValidationError, model: type[BaseModel], where: str) -> UserError:
    """The error to raise for everything that pydantic found in values of `model`."""
    found = dict.fromkeys(sentences(error, model))
    return UserError("\n".join(f"{where}: {sentence}" for sentence in found))


def sentences(error: ValidationError, model: type[BaseModel], prefix: tuple[str, ...] = ()) -> list[str]:
    """Each problem as a sentence; the values of `model` stand below the key `prefix`."""
    found: dict[str, str] = {}
    for problem in error.errors():
        nested = (problem.get("ctx") or {}).get("error")
        if isinstance(nested, KeyedError):
            below = prefix + tuple(str(part) for part in problem["loc"]) + nested.key
            return list(found.values()) + sentences(nested.error, nested.model, below)
        path, around, expected = _walk(model, problem["loc"])
        key = ".".join((*prefix, *path))
        # a value that fits no member of a union gives one problem for each member: the first says enough
        found.setdefault(key, _sentence(problem, key, path[-1] if path else key, around, expected))
    return list(found.values())


def _walk(model: type[BaseModel], loc: Loc) -> tuple[tuple[str, ...], type[BaseModel], Any]:
    """The part of pydantic's location that the user wrote, the model around its last key, and that key's type."""
    path: list[str] = []
    around = model
    here: Any = model
    for part in loc:
        below = _model_in(here)
        if below is not None and not _is_dict(here):
            around = below
            path.append(str(part))
            if part not in below.model_fields:
                break
            here = below.model_fields[str(part)].annotation
        elif _is_dict(here):
            path.append(str(part))
            here = get_args(here)[1]
        else:
            break
    return tuple(path), around, here


def _is_dict(annotation: Any) -> bool:
    return get_origin(annotation) in (dict, Mapping)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg))), None)


def _wanted(given: Any, expected: Any) -> str:
    """What to write for a value of another kind; keys by name, and quotes where YAML reads text as something else."""
    below = _model_in(expected)
    if below is not None and not _is_dict(expected) and not issubclass(below, Named):
        return f"keys below it: {', '.join(below.model_fields)}"
    wanted = describe(expected)
    return f"{wanted} (in quotes)" if expected in (str, str | None) and given is not None else wanted


def _sentence(problem: Any, key: str, last: str, around: type[BaseModel], expected: Any) -> str:
    kind, given = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        return f"unknown key '{key}': {did_you_mean(last, around.model_fields)}"
    if kind == "missing":
        field = around.model_fields.get(last)
        text = f": {field.description}" if field and field.description else ": write it"
        return f"'{key}' is missing{text}"
    if kind == "literal_error":
        return f"{key} = {given!r}: write {problem['ctx']['expected']}"
    if kind == "string_pattern_mismatch":
        return f"{key} = {given!r}: use letters, digits, dots and dashes only, at most 64, such as my-run"
    if kind.endswith(("_type", "_parsing")):
        return f"{key} {'is empty' if given is None else f'= {given!r}'}: write {_wanted(given, expected)}"
    message = problem["msg"].removeprefix("Value error, ")
    return f"{key} = {masked(repr(given))}: {message[0].lower()}{message[1:]}"
