"""From YAML and `section.key=value` to a `Recipe`, with errors that name the key and what to write instead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from luthier.core.artefacts import placeless
from luthier.core.errors import UserError
from luthier.core.files import digest, write_text
from luthier.recipe import yamltext
from luthier.recipe.explain import refuse
from luthier.recipe.schema import Deploy, Recipe, Training

# `method: lora` stands for `method: {name: lora}`
NAMED = ("method", "objective", "optimizer", "schedule", "placement")


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """The recipe of a YAML file, with dotted overrides such as `train.epochs=2` put over it."""
    if not path.is_file():
        raise UserError(f"no recipe at {path}: give the path of a YAML file (see recipes/)")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8") from None
    values = yamltext.read(text, str(path))
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no recipe: write keys such as `name:`, `model:` and `data:`")
    return parse(override(values, overrides), str(path))


def override(values: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """The same values with each `a.b.c=value` put in; the value is read as YAML, and `null` takes the key out."""
    result = _copy(values)
    for text in overrides:
        key, separator, value = text.partition("=")
        *parents, last = key.strip().split(".")
        if not separator or not last or not all(parents):
            raise UserError(f"'{text}' is not an override: write section.key=value, such as train.epochs=2")
        target = result
        for parent in parents:
            target[parent] = below = _opened(parent, target.get(parent))
            if not isinstance(below, dict):
                raise UserError(f"'{text}': {parent} holds {below!r}, which has no keys below it")
            target = below
        if value.strip() == "null":
            target.pop(last, None)
        else:
            target[last] = yamltext.read(value, f"'{text}'")
    return result


def _opened(key: str, value: Any) -> Any:
    """The mapping that a short form stands for, so that a key below it can be set."""
    if value is None:
        return {"name": Training.model_fields[key].default.name} if key in NAMED else {}
    if key in NAMED and isinstance(value, str):
        return {"name": value}
    if key == "sources" and isinstance(value, str):
        return {"data": {"source": value}}
    if key == "sources" and isinstance(value, list):
        return {f"data-{i}": source for i, source in enumerate(value, 1)}
    return {"source": value} if isinstance(value, str) else value


def _copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _copy(item) for key, item in value.items()}
    return value


def parse(values: Mapping[str, Any], where: str = "recipe") -> Recipe:
    """The recipe that these values say."""
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise refuse(error, Recipe, where) from None


def with_exports(recipe: Recipe, exports: Sequence[str]) -> Recipe:
    """The recipe with further exports, each as on the command line: `merged`, `{name: merged, precision: bf16}`."""
    listed = {export.name: export for export in recipe.deploy.exports}
    values = {"exports": tuple(yamltext.read(text, f"'{text}'") for text in exports)}
    try:
        named = Deploy.model_validate(values).exports
    except ValidationError as error:
        raise refuse(error, Deploy, "deploy") from None
    listed |= {export.name: export for export in named}
    return recipe.model_copy(update={"deploy": Deploy(exports=tuple(listed.values()))})


def dump(recipe: Recipe) -> str:
    """The resolved recipe as YAML, every default written out but those that would say what nobody asks."""
    return yamltext.write(recipe.model_dump(mode="json", exclude={"evaluate": set(recipe.evaluate.idle)}))


def save(recipe: Recipe, path: Path) -> None:
    """Write the resolved recipe."""
    write_text(path, dump(recipe))


def identity(recipe: Recipe) -> str:
    """SHA-256 of the resolved recipe: the same for the same work, however it was written.

    `deploy` is no part of it: another export of a finished run is the same run. Nor is where a variant trains.
    """
    return digest(placeless(recipe.model_dump(mode="json", exclude={"deploy"})))
