"""`luthier data`: stage 1."""

from __future__ import annotations

from luthier.cli.flow_verbs import flow
from luthier.cli.options import Debug, Json, Out, Overrides, RecipeOrRun


def data(
    recipe: RecipeOrRun, overrides: Overrides = None, out: Out = None, json: Json = False, debug: Debug = False
) -> None:
    """Stage 1: read, clean, split and render the rows; writes the data card."""
    flow(recipe, overrides, out, lambda opened: opened.data(), json, debug)
