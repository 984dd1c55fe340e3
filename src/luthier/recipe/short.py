"""Short forms in the recipe's JSON Schema: what an editor must accept beside a value written out in full."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, GetJsonSchemaHandler
from pydantic_core import CoreSchema

Schema = dict[str, Any]

# no number of a recipe is negative; a pattern cannot say every bound, and takes rather too much than too little
_DIGITS, _PERCENT = r"(\d+\.?\d*|\.\d+)", r"(\d{1,2}(\.\d*)?|\.\d+)\s*%"
_SMALL = rf"0*\.\d+|0+\.?|1(\.0*)?|{_DIGITS}[eE]-\d+"
NUMBER = {"type": "string", "pattern": rf"^\+?{_DIGITS}([eE][+-]?\d+)?$", "description": "Such as 1e-4."}
SHARE = {
    "type": "string",
    "pattern": rf"^({_SMALL}|{_PERCENT}|100(\.0*)?\s*%)$",
    "description": "Such as 5% or 1e-2.",
}
SIZE = {
    "anyOf": [
        {"type": "integer", "minimum": 0, "description": "Rows."},
        {"type": "number", "minimum": 0, "exclusiveMaximum": 1, "description": "A share of the rows."},
        {"type": "string", "pattern": rf"^{_PERCENT}$|(^|[^%])$", "description": "Such as 5%, or a source."},
    ]
}


@dataclass(frozen=True)
class Short:
    """An annotation: `forms` makes, of the JSON Schema of the full form, those of the short ones."""

    forms: Callable[[Schema], list[Schema]]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        """Either the full form or a short one."""
        return either(handler(core), self.forms)


@dataclass(frozen=True)
class Holding:
    """An annotation: a mapping whose values hold keys of `model`, each of which may be left out."""

    model: type[BaseModel]

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        """The mapping, with the schema of the model for its values."""
        return {**handler(core), "additionalProperties": handler(self.model.__pydantic_core_schema__)}


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
    """The values of a mapping without their keys: the place of one alone, or a list."""
    listed = {"type": "array", "items": full["additionalProperties"], "minItems": 1}
    return [{"type": "string", "description": "The place of a single one."}, listed]
