"""What the verbs that run stages have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from luthier.cli.verb import Work, carry_out

if TYPE_CHECKING:
    from luthier.pipeline.api import Run


def flow(
    source: str | Path,
    overrides: list[str] | None,
    out: Path | None,
    call: Callable[[Run], Run],
    as_json: bool,
    debug: bool,
    show: Callable[[dict[str, Any]], None] | None = None,
) -> NoReturn:
    """Open the run, make the call on it, and show where it stands."""

    def do(work: Work) -> dict[str, Any]:
        from luthier.pipeline.api import open_run

        opened = open_run(source, *(overrides or []), out=out)
        work.folder = opened.folder
        if opened.recipe.data.split.test == 0:  # there is nothing to evaluate on
            work.verb = "train"
        return call(opened).document

    def page(document: dict[str, Any]) -> None:
        from luthier.cli.scores import show_run

        (show or show_run)(document)

    carry_out(do, page, as_json, debug)
