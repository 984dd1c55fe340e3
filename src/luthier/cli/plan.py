"""`luthier plan`: the preflight, and what training will take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from luthier.cli.flow_verbs import flow
from luthier.cli.options import Debug, Json, Out, Overrides, RecipeOrRun
from luthier.cli.verb import Work, carry_out

LrRange = Annotated[
    bool, typer.Option("--lr-range", help="Instead, try rising learning rates on each variant and suggest one.")
]


def plan(
    recipe: RecipeOrRun,
    overrides: Overrides = None,
    out: Out = None,
    lr_range: LrRange = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Stages 1 to 3: check, then predict memory, time and cost with a probe of the real batches."""
    if lr_range:
        _lr_range(recipe, overrides, out, json, debug)
    from luthier.cli.plans import show_plan

    flow(recipe, overrides, out, lambda opened: opened.plan(), json, debug, show_plan)


def _lr_range(recipe: str, overrides: list[str] | None, out: Path | None, as_json: bool, debug: bool) -> NoReturn:
    """The learning-rate range test of every variant; of the run's stages, what it needs is made."""

    def do(work: Work) -> dict[str, Any]:
        from luthier.pipeline.api import open_run

        opened = open_run(recipe, *(overrides or []), out=out)
        work.folder, work.verb = opened.folder, "plan --lr-range"
        return opened.lr_range()

    def show(document: dict[str, Any]) -> None:
        from luthier.cli.ranges import show_ranges

        show_ranges(document)

    carry_out(do, show, as_json, debug)
