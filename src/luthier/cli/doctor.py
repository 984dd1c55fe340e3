"""`luthier doctor`: what this machine can do."""

from __future__ import annotations

from typing import Any

from luthier.cli.options import Debug, Json
from luthier.cli.verb import Work, carry_out


def doctor(json: Json = False, debug: Debug = False) -> None:
    """Look at this machine: cores, memory, disk, packages, GPU, and what is missing."""

    def do(work: Work) -> dict[str, Any]:
        from luthier.pipeline.machine import examine

        return examine()

    carry_out(do, _show, json, debug)


def _show(document: dict[str, Any]) -> None:
    from rich.markup import escape

    from luthier.cli.scores import console

    page = console()
    for finding in document["findings"]:
        mark = {"ok": "[green]✓[/]", "warning": "[yellow]![/]", "error": "[red]✗[/]"}[finding["status"]]
        page.print(f"  {mark} {finding['what']:<10} {escape(finding['detail'])}", soft_wrap=True)
