"""`luthier runs`: the runs of this workspace."""

from __future__ import annotations

from typing import Any

from luthier.cli.options import Debug, Json
from luthier.cli.verb import Work, carry_out


def runs(json: Json = False, debug: Debug = False) -> None:
    """List the runs, the newest first, with their best variant."""

    def do(work: Work) -> dict[str, Any]:
        from dataclasses import asdict

        from luthier.pipeline.index import entries

        return {"runs": [asdict(entry) for entry in entries()]}

    carry_out(do, _show, json, debug)


def _show(document: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from luthier.cli.scores import console
    from luthier.pipeline.headline import span

    if not document["runs"]:
        console().print(
            "  no runs yet: `luthier quickstart` makes one; a run that was copied here is found by its name"
        )
        return
    table = Table("  run", "status", "took", "best", "folder", box=None, pad_edge=False, padding=(0, 2))
    for entry in document["runs"]:
        best = f"{entry['best']} ({entry['metric']} {entry['value']:.3f})" if entry["best"] else ""
        cells = (entry["status"], span(entry["seconds"]), escape(best), escape(entry["folder"]))
        table.add_row(f"  {escape(entry['id'])}", *cells)
    console().print(table)
