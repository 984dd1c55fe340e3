"""A prepared job carried out: run now, or written where it was asked for."""

from __future__ import annotations

from pathlib import Path
from shlex import join
from typing import Any

from luthier.core.errors import UserError
from luthier.core.events import emit
from luthier.core.files import disk_errors, write_text
from luthier.launch.contract import FILE, Launch


def deliver(on: str, launch: Launch, out: Path | None = None, dry_run: bool = False) -> dict[str, Any]:
    """Run the command, or write the job file into the folder `out`; `{target, file, command, status}`.

    Without a folder the file's `text` is in the document. Raises UserError for a setting that would change nothing,
    and what fits the workers' exit code when they fail.
    """
    if launch.run is None and dry_run:
        raise UserError(
            f"--dry-run does nothing on {on}, for which a file is written and nothing submitted: leave it out"
        )
    if launch.run is not None and out is not None:
        raise UserError(
            f"--out is the folder of a job file, and {on} runs here: leave it out (LUTHIER_RUNS moves the runs)"
        )
    if launch.run is not None:
        document = {"target": on, "file": None, "command": join(launch.command), "status": "planned"}
        if dry_run:
            return document
        emit("launch.started", document["command"])
        launch.run()
        return document | {"status": "done"}
    path = launch.name if out is None else str(_write(out, launch))
    command = join(word.replace(FILE, path) for word in launch.command)
    if out is None:
        return {"target": on, "file": None, "command": command, "status": "planned", "text": launch.text}
    return {"target": on, "file": path, "command": command, "status": "written"}


def _write(out: Path, launch: Launch) -> Path:
    with disk_errors(out):
        try:
            out.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise UserError(f"--out {out} is a file: give the path of a folder") from None
    write_text(out / launch.name, launch.text)
    return out / launch.name
