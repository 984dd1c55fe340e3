"""No false alarm on the recipes that ship: every one whose data and model are there."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.core.artefacts import Artefacts
from luthier.core.errors import UserError
from luthier.data import stage as data_stage
from luthier.engine.job import build
from luthier.models.tokenizers import read_tokenizer
from luthier.plan.collect import collect
from luthier.plan.preflight import examine
from luthier.recipe.load import load
from luthier.recipe.sections import DataSection
from tests.preflight_bugs.house import model_folder

RECIPES = sorted((Path(__file__).parents[2] / "recipes").rglob("*.yaml"))
ROWS = 400  # of each source, in this test
TOKENIZERS = {"google/flan-t5-base": "flan-t5"}  # models of the hub: random weights, and the real tokenizer


def parameters() -> list:
    """The recipes; those on public data are marked."""
    return [
        pytest.param(path, marks=pytest.mark.data if "LUTHIER_DATA" in path.read_text() else (), id=path.stem)
        for path in RECIPES
    ]


@pytest.mark.parametrize("path", parameters())
def test_a_shipped_recipe_raises_no_alarm(path, tmp_path, request, monkeypatch):
    if "LUTHIER_DATA" in path.read_text():
        monkeypatch.setenv("LUTHIER_DATA", str(request.getfixturevalue("data_folder")))
    recipe = load(path)
    base = recipe.model.base
    if base in TOKENIZERS:
        tokenizer = read_tokenizer(request.getfixturevalue("data_folder") / "tokenizers" / TOKENIZERS[base])
        base = str(model_folder(tmp_path / "model", "t5", tokenizer))
    sources = recipe.data.sources
    builtin = all(source.source.startswith("builtin:") for source in sources.values())
    few = [f"data.sources.{name}.rows={ROWS}" for name in sources]
    shares = ["data.split.validation=10%", "data.split.test=10%"] if builtin else []
    recipe = load(path, [*few, *shares, f"model.base={base}"])
    try:
        data_stage.run(
            DataSection(seed=recipe.seed, model=recipe.model, data=recipe.data), Artefacts(tmp_path, {}), tmp_path
        )
        job = build(recipe.seed, recipe.model, recipe.data, recipe.train.variant(recipe.train.names[0]), tmp_path)
    except UserError as error:
        if "model.base" not in str(error) and "hub" not in str(error):
            raise
        pytest.skip(f"the model of {path.name} is not here: {error}")
    findings = examine(collect(job, recipe.model, recipe.data, tmp_path))
    assert {name: f.detail for name, f in findings.items() if f.status == "error"} == {}
    if builtin:
        assert {name: f.detail for name, f in findings.items() if f.status == "warning"} == {}
