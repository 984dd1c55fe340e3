"""`luthier check`: would this train what was meant?"""

from __future__ import annotations

from luthier.cli.flow_verbs import flow
from luthier.cli.options import Debug, Json, Out, Overrides, RecipeOrRun


def check(
    recipe: RecipeOrRun, overrides: Overrides = None, out: Out = None, json: Json = False, debug: Debug = False
) -> None:
    """The recipe, the data and the preflight on the real batches; trains nothing and measures nothing."""
    from luthier.cli.plans import show_checks

    flow(recipe, overrides, out, lambda opened: opened.check(), json, debug, show_checks)
