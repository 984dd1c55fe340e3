"""Every shipped recipe is one."""

from __future__ import annotations

from pathlib import Path

import pytest

from luthier.cli.quickstart import RECIPE
from luthier.pipeline.validate import validate
from luthier.recipe.load import load

RECIPES = sorted(Path(__file__).parents[2].glob("recipes/**/*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_it_is_valid(path):
    validate(load(path))


def test_quickstart_is_the_recipe_in_the_package():
    assert (Path(__file__).parents[2] / "recipes" / "quickstart.yaml").read_bytes() == RECIPE.read_bytes()
