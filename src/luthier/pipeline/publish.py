"""What a finished run shows: the report and the model card."""

from __future__ import annotations

from pathlib import Path

from luthier.pipeline.folder import CARD, REPORT


def publish(folder: Path, changed: bool) -> None:
    """Write report.html and README.md unless they are there and nothing has changed."""
    if not changed and (folder / REPORT).is_file() and (folder / CARD).is_file():
        return
    from luthier.evaluate.report import write_card, write_report

    write_report(folder)
    write_card(folder)
