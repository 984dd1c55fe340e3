"""What a finished run shows, and keeps for its monitoring: the report, the model card, the evaluation's baseline."""

from __future__ import annotations

from pathlib import Path

from luthier.pipeline.folder import CARD, REPORT


def publish(folder: Path, changed: bool) -> None:
    """Write report.html and README.md unless they are there and nothing has changed, and keep the baseline."""
    if changed or not ((folder / REPORT).is_file() and (folder / CARD).is_file()):
        from luthier.evaluate.report import write_card, write_report

        write_report(folder)
        write_card(folder)
    from luthier.monitor.baseline import keep_baseline

    keep_baseline(folder)
