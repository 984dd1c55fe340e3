"""Every key that a recipe may hold, read off the schema: for `luthier schema --keys`, the docs and the tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from luthier.recipe.describe import describe
from luthier.recipe.schema import Recipe
from luthier.recipe.values import Named

REQUIRED = "required"


@dataclass(frozen=True)
class Key:
    """One key: its dotted name (`<name>` where the user chooses), what may be written, its default, what it does."""

    name: str
    values: str
    default: str
    text: str


def keys(model: type[BaseModel] = Recipe, prefix: str = "") -> Iterator[Key]:
    """The leaf keys below a section, in the schema's order."""
    for name, field in model.model_fields.items():
        below = _section(field.annotation)
        if below is None:
            default = REQUIRED if field.is_required() else _shown(field.default)
            yield Key(prefix + name, describe(field.annotation), default, field.description or "")
        elif get_origin(field.annotation) is dict:
            yield from keys(below, f"{prefix}{name}.<name>.")
        else:
            yield from keys(below, f"{prefix}{name}.")


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model whose keys stand below this one: a section, or the values of a mapping of sections."""
    if get_origin(annotation) is dict:
        annotation = get_args(annotation)[1]
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation is not Named:
        return annotation
    return None


def _shown(default: Any) -> str:
    if default is PydanticUndefined or default is None or default in ((), {}):
        return ""
    if isinstance(default, Named):
        return default.name
    if isinstance(default, tuple):
        return ", ".join(str(value) for value in default)
    return str(default).lower() if isinstance(default, bool) else str(default)


def table() -> str:
    """The keys as a Markdown table: docs/recipes.md holds exactly this."""
    lines = ["| key | values | default | what it does |", "|---|---|---|---|"]
    for key in keys():
        text = key.text.replace("\n", " ").replace("|", "\\|")
        default = f"`{key.default}`" if key.default else ""
        lines.append(f"| `{key.name}` | {key.values} | {default} | {text} |")
    return "\n".join(lines) + "\n"
