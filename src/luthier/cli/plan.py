"""`luthier plan`: the preflight, and what training will take."""

from __future__ import annotations

from luthier.cli.flow_verbs import flow
from luthier.cli.options import Debug, Json, Out, Overrides, RecipeOrRun


def plan(
    recipe: RecipeOrRun, overrides: Overrides = None, out: Out = None, json: Json = False, debug: Debug = False
) -> None:
    """Stages 1 to 3: check, then predict memory, time and cost with a probe of the real batches."""
    from luthier.cli.plans import show_plan

    flow(recipe, overrides, out, lambda opened: opened.plan(), json, debug, show_plan)
