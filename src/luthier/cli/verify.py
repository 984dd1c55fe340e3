"""`luthier verify`: is everything as it was sealed, and is every export still the model that was trained?"""

from __future__ import annotations

from typing import Any

from luthier.cli.options import Debug, Json, RunName
from luthier.cli.verb import Work, carry_out

SAID = 3  # problems that the refusal tells; the document has all


def verify(run: RunName, json: Json = False, debug: Debug = False) -> None:
    """Every checksum of a run folder, and the parity of every export in a fresh process; changes nothing."""

    def do(work: Work) -> dict[str, Any]:
        from luthier.core.errors import Refusal
        from luthier.pipeline.api import open_run
        from luthier.pipeline.index import find

        opened = open_run(find(run))
        document = opened.verify()
        if document["problems"]:
            work.found = document
            more = len(document["problems"]) - SAID
            rest = f"; and {more} more" if more > 0 else ""
            raise Refusal("; ".join(document["problems"][:SAID]) + rest)
        return document

    carry_out(do, _show, json, debug)


def _show(document: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from luthier.cli.scores import console

    page = console()
    page.print()
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, found in document["folders"].items():
        table.add_row(f"  [green]✓[/] {escape(name)}", f"[dim]{found['files']} files as they were sealed[/]")
    for name, parity in document["exports"].items():
        near = f"the trained model: logits within {parity['largest_logit_difference']:.1e}"
        table.add_row(f"  [green]✓[/] {escape(name)}", f"[dim]{near} on {parity['rows']} rows[/]")
    for name in document["unfinished"]:
        table.add_row(f"  [dim]· {escape(name)}[/]", "[dim]not finished[/]")
    page.print(table)
