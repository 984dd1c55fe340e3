"""`luthier run`: every stage of a recipe."""

from __future__ import annotations

from luthier.cli.flow_verbs import flow
from luthier.cli.options import Debug, Json, Out, Overrides, RecipeFile


def run(
    recipe: RecipeFile, overrides: Overrides = None, out: Out = None, json: Json = False, debug: Debug = False
) -> None:
    """Run all stages of a recipe; what is finished and unchanged is skipped."""
    flow(recipe, overrides, out, lambda opened: opened.all(), json, debug)
