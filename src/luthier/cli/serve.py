"""`luthier serve`: runs behind OpenAI's API."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from luthier.cli.options import Debug, Json
from luthier.cli.verb import Work, carry_out


def serve(
    runs: Annotated[list[str], typer.Argument(help="Runs on one base: folders or ids.", show_default=False)],
    host: Annotated[str, typer.Option(help="Where to listen; off loopback, requests need a key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port; 0: any that is free.", min=0, max=65535)] = 8000,
    require_key: Annotated[
        bool, typer.Option("--require-key", help="Ask for a key on loopback, too, as behind a proxy.")
    ] = False,
    record: Annotated[
        Literal["shapes", "content"], typer.Option(help="What is kept of requests: numbers only, or texts too.")
    ] = "shapes",
    max_tokens: Annotated[int, typer.Option(help="Most tokens of an answer.", min=1)] = 1024,
    max_body: Annotated[int, typer.Option(help="Most bytes of a request.", min=1024)] = 1 << 20,
    batch: Annotated[int, typer.Option(help="Answers in the making at once.", min=1, max=1024)] = 16,
    queue: Annotated[int, typer.Option(help="Requests that may wait; more get a 429.", min=1, max=4096)] = 256,
    grace: Annotated[float, typer.Option(help="Seconds to finish what runs after SIGTERM.", min=0)] = 30.0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Serve the models of one or more runs on one base, through OpenAI's API; Ctrl-C finishes what runs and stops.

    Every variant is a model of its name. `luthier keys --new NAME` makes a key, `luthier monitor RUN` shows the
    traffic.
    """

    def do(work: Work) -> dict[str, Any]:
        from luthier.gateway.limits import Limits
        from luthier.gateway.server import serve as serve_runs
        from luthier.pipeline.index import find

        folders: list[Path] = [find(run) for run in runs]
        limits = Limits(body=max_body, tokens=max_tokens, running=batch, waiting=queue, grace=grace)
        kept = record == "content"
        return serve_runs(folders, host, port, limits, _ready, content=kept, require_key=require_key)

    carry_out(do, _show, json, debug)


def _ready(url: str, models: list[str]) -> None:
    """Say where the server listens; on stderr, since stdout is for the result."""
    import sys

    print(f"serving {', '.join(models)}\n  at {url}/v1   (Ctrl-C stops)", file=sys.stderr, flush=True)


def _show(document: dict[str, Any]) -> None:
    print(f"stopped; {document['refused']} requests came too late and were refused")
