"""`luthier export`: stage 6 on what is trained."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from luthier.cli.flow_verbs import flow
from luthier.cli.options import Debug, Json, RecipeOrRun

Exports = Annotated[
    list[str] | None,
    typer.Argument(help="adapter, merged, or '{name: merged, precision: bf16}'; default: the recipe's."),
]


def export(run: RecipeOrRun, exports: Exports = None, json: Json = False, debug: Debug = False) -> None:
    """Stage 6: export the trained variants, each reloaded in a fresh process and compared; trains nothing."""
    flow(run, None, None, lambda opened: opened.export(*(exports or [])), json, debug, show_exports)


def show_exports(document: dict[str, Any]) -> None:
    """Every export with its folder and how near it lies to the trained model."""
    from rich.markup import escape
    from rich.table import Table

    from luthier.cli.scores import console

    page = console()
    page.print()
    table = Table("  export", "logits within", "greedy", "folder", box=None, pad_edge=False, padding=(0, 2))
    for name, found in document["exports"].items():
        if found["status"] == "done":
            near = found["parity"]
            agreement = f"{near['greedy_agreement']:.1%}"
            cells = (f"{near['largest_logit_difference']:.1e}", agreement, escape(found["path"]))
            table.add_row(f"  {escape(name)}", *cells)
        else:
            table.add_row(
                f"  [dim]{escape(name)}[/]", "[dim]–[/]", "[dim]–[/]", f"[dim]left out: {found['reason']}[/]"
            )
    page.print(table)
    page.print(
        f"\n  next    the README.md in each folder says how to load it; luthier verify {escape(document['out'])}"
    )
