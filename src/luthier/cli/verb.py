"""How every verb ends: one document or one page on stdout, one sentence for an error, and the exit code."""

from __future__ import annotations

import json
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import typer

from luthier.core.errors import BROKEN, DONE, INTERRUPTED, REFUSED, USER, Interrupted, Refusal, UserError

KINDS = {REFUSED: "refused", USER: "input", BROKEN: "broken", INTERRUPTED: "interrupted"}
TRACEBACK = "traceback.txt"


@dataclass
class Work:
    """What a verb is about to do; it notes its run folder here, so that an error can say where things stand.

    `found` is a document of its own that goes with a refusal, instead of the run's.
    """

    folder: Path | None = None
    verb: str = "resume"  # what goes on with the run, should it be interrupted
    found: dict[str, Any] | None = None


def carry_out(
    do: Callable[[Work], dict[str, Any]], show: Callable[[dict[str, Any]], None], as_json: bool, debug: bool = False
) -> NoReturn:
    """Do the work, print its document or show it to people, and leave with the exit code that says how it went."""
    from luthier.cli.terminal import listening

    work = Work()
    try:
        # a library's print must not end up in the document
        with listening(as_json), redirect_stdout(sys.stderr):
            document = do(work)
    except (UserError, Refusal, Interrupted, KeyboardInterrupt) as error:
        code, message = expected(error, work)
        fail(message, code, as_json, _state(work) if code == REFUSED else {})
    except Exception as error:  # a defect of ours: the last line of defence before the user's terminal
        if debug:
            raise
        path = _keep_traceback(work)
        message = f"something broke ({type(error).__name__}: {error}); the traceback is in {path}"
        fail(message, BROKEN, as_json, {})
    if as_json:
        print(json.dumps(document, ensure_ascii=False, indent=2))
    else:
        show(document)
    raise typer.Exit(DONE)


def expected(error: BaseException, work: Work) -> tuple[int, str]:
    """Exit code and sentence of an error that is part of the plan."""
    if isinstance(error, UserError):
        return USER, str(error)
    if isinstance(error, Refusal):
        return REFUSED, str(error)
    then = f"; `luthier {work.verb} {work.folder}` goes on from there" if work.folder else ""
    return INTERRUPTED, f"{str(error) or 'stopped'}{then}"


def fail(message: str, code: int, as_json: bool, state: dict[str, Any]) -> NoReturn:
    """Say what is wrong, for a machine or for people, and leave."""
    if as_json:
        error = {"kind": KINDS[code], "message": message, "exit_code": code}
        print(json.dumps({**state, "status": KINDS[code], "error": error}, ensure_ascii=False, indent=2))
    else:
        from rich.console import Console
        from rich.markup import escape

        mark = {REFUSED: "[yellow]no[/]: ", INTERRUPTED: ""}.get(code, "[red]error[/]: ")
        Console(stderr=True).print(f"{mark}{escape(message)}", highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def _state(work: Work) -> dict[str, Any]:
    """What is known of the run that was refused: its document."""
    if work.found is not None:
        return work.found
    if work.folder is None:
        return {}
    from luthier.pipeline.summary import document

    return document(work.folder)


def _keep_traceback(work: Work) -> Path:
    """Write the traceback into the run's folder, or a temporary one where that cannot be."""
    text = traceback.format_exc()
    if work.folder is not None and work.folder.is_dir():
        path = work.folder / TRACEBACK
        try:
            path.write_text(text, encoding="utf-8")
            return path
        except OSError:
            pass  # the run's disk may be what broke
    path = Path(tempfile.mkdtemp(prefix="luthier-")) / TRACEBACK
    path.write_text(text, encoding="utf-8")
    return path
