"""`luthier monitor`: the traffic of a run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from luthier.cli.options import Debug, Json, RunName
from luthier.cli.verb import Work, carry_out


def monitor(
    run: RunName,
    days: Annotated[float, typer.Option(help="How far to look back.", min=0.001)] = 7.0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Stage 7: what was asked of a served run: volume, latency, tokens, errors, lengths, ratings and cost; a page."""

    def do(work: Work) -> dict[str, Any]:
        from luthier.gateway.page import write_page
        from luthier.monitor.summary import summarise
        from luthier.pipeline.index import find

        folder = find(run)
        document = summarise(folder, days)
        return {**document, "page": str(write_page(folder, document))}

    carry_out(do, _show, json, debug)


def _show(document: dict[str, Any]) -> None:
    from rich.markup import escape

    from luthier.cli.scores import console

    page = console()
    page.print()
    page.print(_models(document))
    for line in _lines(document):
        page.print(f"  {line}", soft_wrap=True)
    page.print(f"  {'page':<9} {escape(document['page'])}", soft_wrap=True)


def _models(document: dict[str, Any]) -> Any:
    """A row for each model: volume, latency, tokens, ratings."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("  model", no_wrap=True)
    for name in ("requests", "answered", "p50", "p90", "p99", "first", "read", "written", "up", "down"):
        table.add_column(name, justify="right")
    for name, row in document["models"].items():
        times = [_seconds((row["seconds"] or {}).get(p)) for p in ("p50", "p90", "p99")]
        first = _seconds((row["first_token_seconds"] or {}).get("p50"))
        numbers = [f"{row[key]:,}" for key in ("prompt_tokens", "answer_tokens", "up", "down")]
        table.add_row(f"  {escape(name)}", f"{row['requests']:,}", f"{row['answered']:,}", *times, first, *numbers)
    return table


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _lines(document: dict[str, Any]) -> list[str]:
    """Errors, lengths and cost, one line each."""
    from rich.markup import escape

    errors = ", ".join(f"{escape(name)} x {count:,}" for name, count in document["errors"].items())
    lines = [f"{'errors':<9} {errors or 'none'}"]
    for entry in document["lengths"]:
        mark = {None: "[dim]·[/]", True: "[yellow]![/]", False: "[green]✓[/]"}[entry["shifted"]]
        means = (
            f"{entry['traffic']['mean']:,.0f} {entry['unit']} on average, {entry['baseline']['mean']:,.0f} expected"
        )
        chance = "too few to tell" if entry["p"] is None else f"p {entry['p']:.3g}"
        lines.append(f"{mark} {escape(entry['variant'])}, {entry['what']}s: {means} ({chance})")
    cost = document["cost"]
    each = cost["usd_per_1000_answers"]
    tail = "" if each is None else f", ${each:,.4f} for 1,000 answers"
    lines.append(f"{'cost':<9} ${cost['usd']:,.4f} for {cost['hours']:,.2f} h up{tail}")
    return lines
