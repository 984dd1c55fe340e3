"""`luthier train`: stages 1 to 4."""

from __future__ import annotations

from luthier.cli.flow_verbs import flow
from luthier.cli.options import Debug, Json, Out, Overrides, RecipeOrRun


def train(
    recipe: RecipeOrRun, overrides: Overrides = None, out: Out = None, json: Json = False, debug: Debug = False
) -> None:
    """Stages 1 to 4: train every variant, from its last checkpoint where there is one."""
    flow(recipe, overrides, out, lambda opened: opened.train(), json, debug)
