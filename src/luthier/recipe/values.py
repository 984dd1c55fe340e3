"""The kinds of value a recipe may hold: shares, sizes of a split, and names with options."""

from __future__ import annotations

from math import isfinite
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from luthier.recipe.short import NUMBER, SHARE, SIZE, Short, either, said, text


def parse_share(value: Any) -> Any:
    """`5%` as 0.05; anything else as it is."""
    if isinstance(value, str) and value.strip().endswith("%"):
        try:
            return float(value.strip()[:-1]) / 100
        except ValueError:
            raise ValueError(f"'{value}' is not a share: write a number and %, such as 5%") from None
    return value


def parse_number(value: Any) -> Any:
    """`1e-4` as a number: YAML reads it as text because it lacks a dot."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def _split_size(value: Any) -> Any:
    """A share as a float below 1, a number of rows as an integer, anything else as the name of a source."""
    written, value = value, parse_share(value)
    if written is not value and not 0 <= value < 1:
        raise ValueError(f"{written} is no share of the rows: write one below 100%, such as 5%, or a number of rows")
    if isinstance(value, bool) or value is None:
        raise ValueError("write a share (5%), a number of rows (200) or a source (file.jsonl)")
    if isinstance(value, float) and (value != value or (value >= 1 and not value.is_integer())):
        raise ValueError(f"{value} is neither a share (below 1, or 5%) nor a whole number of rows")
    if isinstance(value, float) and value >= 1:
        return int(value)
    if isinstance(value, int | float) and value < 0:
        raise ValueError(f"{value} is negative: write a share (5%) or a number of rows (200)")
    return value


# bounds stand before the validator, or pydantic leaves them out of the JSON Schema
_Above, _Part, _Finite = Field(gt=0), Field(ge=0, le=1), Field(allow_inf_nan=False)
Number = Annotated[float, BeforeValidator(parse_number), _Finite, Short(said(NUMBER))]
Positive = Annotated[float, _Above, BeforeValidator(parse_number), _Finite, Short(said(NUMBER))]
Share = Annotated[float, _Part, BeforeValidator(parse_share), _Finite, Short(said(SHARE))]
SplitSize = Annotated[int | float | str, BeforeValidator(_split_size), WithJsonSchema(SIZE)]


class Frozen(BaseModel):
    """A part of the recipe: unchangeable, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Named(BaseModel):
    """An entry of a table with its options: `lora`, or `{name: lora, rank: 8}`.

    The options belong to the entry and are checked by its own config class when the recipe is validated.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    name: str

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _finite(self) -> Named:
        for key, value in self.options.items():
            if isinstance(value, float) and not isfinite(value):
                raise ValueError(f"{key} is {value}: write a finite number")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """The name alone is enough."""
        return either(handler(core), text("The name alone, without options."))

    @model_serializer
    def _as_written(self) -> Any:
        return {"name": self.name, **self.options} if self.options else self.name

    @property
    def options(self) -> dict[str, Any]:
        """The keys beside `name`."""
        return dict(self.model_extra or {})
