"""What `luthier schema` gives to editors: it takes every recipe that Luthier takes, in short or in full."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from luthier.recipe import yamltext
from luthier.recipe.keys import keys
from luthier.recipe.load import parse
from luthier.recipe.schema import Recipe

ROOT = Path(__file__).parents[2]
RECIPES = sorted(ROOT.glob("recipes/**/*.yaml"))
SECTIONS = set(Recipe.model_fields)
LEAST = {"name": "toy", "model": {"base": "builtin:t5"}, "data": {"sources": "rows.jsonl"}}
SCHEMA = Recipe.model_json_schema()


def problems(values) -> list[str]:
    Draft202012Validator.check_schema(SCHEMA)
    return [f"{error.json_path}: {error.message}" for error in Draft202012Validator(SCHEMA).iter_errors(values)]


def snippets() -> list[tuple[str, dict]]:
    """The pieces of recipes in the documentation, each put over the smallest recipe."""
    found = []
    for path in sorted(ROOT.glob("docs/**/*.md")):
        for number, text in enumerate(re.findall(r"^```yaml\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE)):
            values = yamltext.read(text, path.name)
            if isinstance(values, dict) and set(values) <= SECTIONS:
                data = {**LEAST["data"], **values.get("data", {})}
                found.append((f"{path.stem}-{number}", {**LEAST, **values, "data": data}))
    return found


def with_train(**training) -> dict:
    return {**LEAST, "train": training}


def with_data(**data) -> dict:
    return {**LEAST, "data": {**LEAST["data"], **data}}


def with_split(**split) -> dict:
    return with_data(split=split)


def with_budget(**budget) -> dict:
    return {**LEAST, "plan": {"budget": budget}}


SHORT = {
    "one source": {**LEAST, "data": {"sources": "rows.jsonl"}},
    "a list of sources": {**LEAST, "data": {"sources": ["a.jsonl", {"source": "b.csv", "weight": "2"}]}},
    "sources by name": {**LEAST, "data": {"sources": {"a": "a.jsonl", "b": {"source": "b.csv", "rows": 3}}}},
    "names": with_train(method="lora", objective="sft", optimizer="adamw", schedule="linear", placement="fsdp"),
    "options": with_train(method={"name": "lora", "rank": 8}, placement={"name": "fsdp", "processes": 2}),
    "numbers as YAML reads them": with_train(learning_rate="1e-4", epochs="2.5", rates={"lora_B": "1.6e1"}),
    "shares": with_train(warmup="5%", validate_every="2.5%"),
    "shares with a bare dot": with_train(warmup=".5%", validate_every="5.%"),
    "whole shares": with_train(warmup="100%", validate_every="100.0 %"),
    "shares as YAML reads them": with_train(warmup="1e-2", validate_every="0.05"),
    "shares of the data as YAML reads them": with_data(similarity="8e-1", max_rejected=".02"),
    "confidence as YAML reads it": {**LEAST, "evaluate": {"confidence": "9.5e-1"}},
    "a budget as YAML reads it": with_budget(hours="1e1", usd=None),
    "one tracker": with_train(track="tensorboard"),
    "some trackers": with_train(track=["wandb", {"name": "mlflow", "uri": "x"}]),
    "one export": {**LEAST, "deploy": {"exports": "merged"}},
    "sizes of a split": {**LEAST, "data": {"sources": "a.jsonl", "split": {"validation": "5%", "test": 200}}},
    "sizes as numbers": with_split(validation=0.5, test=2.0),
    "sizes as sources": with_split(validation="a.jsonl", test="50% more.jsonl"),
    "no rows to test": with_split(validation=".5 %", test=0),
    "variants": with_train(variants={"a": {}, "b": {"method": "lora", "warmup": "1e-2", "track": "wandb"}}),
    "variants in full": with_train(variants={"a": {"method": {"name": "lora", "rank": 8}, "max_steps": None}}),
}
WRONG = {
    "a key that is none": {**LEAST, "modle": 1},
    "a word for a number": with_train(learning_rate="fast"),
    "a number out of range": with_train(learning_rate=-1.0),
    "a word for a share": with_train(warmup="some"),
    "a share out of range": with_train(warmup=1.5),
    "a number for a name": with_train(placement=3),
    "options without a name": with_train(method={"rank": 8}),
    "a source without a place": {**LEAST, "data": {"sources": {"a": {"rows": 3}}}},
    "a number for a tracker": with_train(track=3),
    "one source in full without a name": with_data(sources={"source": "a.jsonl", "rows": 3}),
    "no sources by name": with_data(sources={}),
    "no sources in a list": with_data(sources=[]),
    "hours below nothing": with_budget(hours=-1),
    "no hours": with_budget(hours=0),
    "dollars below nothing": with_budget(usd="-1"),
    "a percentage out of range": with_train(warmup="500%"),
    "a percentage just out of range": with_train(warmup="100.1%"),
    "a share out of range as text": with_train(warmup="1.5"),
    "a rate below nothing as text": with_train(learning_rate="-1e-4"),
    "rows below nothing": with_split(test=-5),
    "a row and a half": with_split(test=1.5),
    "a split of more than all": with_split(test="120%"),
    "a split of all": with_split(test="100%"),
    "a split by a word": with_split(test="some%"),
    "a variant's key that is none": with_train(variants={"a": {"learning_rte": 1}}),
    "a variant's number out of range": with_train(variants={"a": {"learning_rate": -1}}),
    "variants of a variant": with_train(variants={"a": {"variants": {}}}),
    "an empty variant": with_train(variants={"a": None}),
}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_every_shipped_recipe_fits(path):
    assert problems(yamltext.read(path.read_text(), path.name)) == []


@pytest.mark.parametrize(("name", "values"), snippets())
def test_every_piece_in_the_documentation_fits(name, values):
    assert problems(values) == []


def test_the_pieces_are_there():
    assert len(snippets()) >= 6


@pytest.mark.parametrize("name", SHORT)
def test_short_forms_fit_and_are_read(name):
    parse(SHORT[name])
    assert problems(SHORT[name]) == []


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_does_not_fit(name):
    with pytest.raises(ValueError):
        parse(WRONG[name])
    assert problems(WRONG[name])


def test_a_recipe_written_out_in_full_fits():
    assert problems(parse(LEAST).model_dump(mode="json")) == []


def test_every_key_keeps_its_description():
    """Beside its short forms: an editor shows the words of the schema's own docstrings."""
    text = str(SCHEMA)
    for key in keys():
        assert key.text and repr(key.text)[1:-1] in text, key.name
