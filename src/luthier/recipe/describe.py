"""What may be written for a key, in words, read off its type."""

from __future__ import annotations

from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel

from luthier.recipe.values import Named

WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def describe(annotation: Any) -> str:
    """`a whole number`, `text`, `cosine, linear or constant`, ..."""
    if annotation in WORDS:
        return WORDS[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is Named:
        return "a name, or {name: ..., option: ...}"
    if origin is Annotated:
        return describe(arguments[0])
    if origin is Literal:
        return _either([str(value) for value in arguments])
    if origin is tuple:
        return f"a list of {describe(arguments[0])}"
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "keys below it"
    members = [describe(argument) for argument in arguments if argument is not NoneType]
    return _either(list(dict.fromkeys(members)))


def _either(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]
