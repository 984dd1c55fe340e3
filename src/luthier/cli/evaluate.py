"""`luthier evaluate`: stage 5 on what is trained."""

from __future__ import annotations

from luthier.cli.flow_verbs import flow
from luthier.cli.options import Debug, Json, RecipeOrRun


def evaluate(run: RecipeOrRun, json: Json = False, debug: Debug = False) -> None:
    """Stage 5: measure the trained variants on the test rows and write the report; trains nothing."""
    flow(run, None, None, lambda opened: opened.evaluate(), json, debug)
