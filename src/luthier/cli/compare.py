"""`luthier compare`: two runs, or the variants of one."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from luthier.cli.options import Debug, Json
from luthier.cli.verb import Work, carry_out


def compare(
    runs: Annotated[list[str], typer.Argument(help="One run (its variants) or several: folders or ids.")],
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Set scores side by side: the variants of one run with their paired tests, or the best of several runs."""

    def do(work: Work) -> dict[str, Any]:
        from luthier.pipeline.compare import compare_runs

        return compare_runs(runs)

    carry_out(do, _show, json, debug)


def _show(document: dict[str, Any]) -> None:
    from luthier.cli.scores import console, fitting, verdicts

    page = console()
    page.print()
    page.print(fitting(document, page))
    for line in verdicts(document):
        page.print(f"  {line}")
    for note in document["notes"]:
        page.print(f"  [yellow]![/] {note}")
