"""Short forms in the recipe's JSON Schema: what an editor must accept beside a value written out in full."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

Schema = dict[str, Any]
NUMBER = {"type": "string", "pattern": r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$", "description": "Such as 1e-4."}
SHARE = {"type": "string", "pattern": r"^\d+(\.\d+)?\s*%$", "description": "Such as 5%."}


@dataclass(frozen=True)
class Short:
    """An annotation: `forms` makes, of the JSON Schema of the full form, those of the short ones."""

    forms: Callable[[Schema], list[Schema]]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        """Either the full form or a short one."""
        return either(handler(core), self.forms)


def either(full: Schema, forms: Callable[[Schema], list[Schema]]) -> Schema:
    """The schema of the full form or any of the short ones."""
    return {"anyOf": [full, *forms(full)]}


def said(form: Schema) -> Callable[[Schema], list[Schema]]:
    """The same short form, whatever the full one is."""
    return lambda full: [form]


def text(description: str) -> Callable[[Schema], list[Schema]]:
    """A plain string that stands for the whole."""
    return said({"type": "string", "description": description})


def one_entry(full: Schema) -> list[Schema]:
    """A single entry instead of a list of one."""
    return [full["items"]]


def unnamed(full: Schema) -> list[Schema]:
    """The values of a mapping without their keys: one alone, or a list."""
    value = full["additionalProperties"]
    return [value, {"type": "array", "items": value}]
