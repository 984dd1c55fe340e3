"""From YAML and `section.key=value` to a `Recipe`, with errors that name the key and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from luthier.core.errors import UserError, did_you_mean
from luthier.core.files import write_text
from luthier.recipe.schema import Recipe


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a YAML file, with dotted overrides such as `train.epochs=2` put over it."""
    if not path.is_file():
        raise UserError(f"no recipe at {path}: give the path of a YAML file (see recipes/)")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        raise UserError(f"{path}{where} is not valid YAML: {getattr(error, 'problem', error)}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no recipe: write keys such as `name:`, `model:` and `data:`")
    return parse(override(values, overrides), str(path))


def override(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The same values with each `a.b.c=value` put in; the value is read as YAML."""
    result = _copy(values)
    for text in overrides:
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise UserError(f"'{text}' is not an override: write section.key=value, such as train.epochs=2")
        *parents, last = key.split(".")
        target = result
        for parent in parents:
            below = target.get(parent)
            if isinstance(below, str):  # `method: lora` stands for `method: {name: lora}`
                below = {"name" if parent in ("method", "objective", "optimizer") else "source": below}
            target[parent] = below = {} if below is None else below
            if not isinstance(below, dict):
                raise UserError(f"'{text}': {parent} holds a value, not keys")
            target = below
        target[last] = yaml.safe_load(value)
    return result


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return value


def parse(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """The recipe that these values say."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UserError("; ".join(explain(problem, where, Recipe) for problem in error.errors())) from None


def explain(problem: Any, where: str, model: type[BaseModel]) -> str:
    """One pydantic problem as a sentence: where, what, and what to write instead."""
    location = [str(part) for part in problem["loc"]]
    key = ".".join(location)
    if problem["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        return f"{where}: unknown key '{key}': {did_you_mean(location[-1], known)}"
    if problem["type"] == "missing":
        return f"{where}: '{key}' is missing: write it"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    if problem["type"] == "literal_error":
        message = f"expected {problem['ctx']['expected']}"
    return f"{where}: {key} = {problem['input']!r}: {message}"


def _known_keys(model: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys allowed below a dotted path of the schema."""
    current: type[BaseModel] | None = model
    for part in path:
        if current is None or part not in current.model_fields:
            continue  # a name the user chose, such as a source's
        current = _model_in(current.model_fields[part].annotation)
    return list(current.model_fields) if current else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for arg in get_args(annotation) if (found := _model_in(arg))), None)


def dump(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every default written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def save(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe."""
    write_text(path, dump(recipe))
