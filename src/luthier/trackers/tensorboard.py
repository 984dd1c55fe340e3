"""TensorBoard: event files in the variant's own folder, written with the `tensorboard` package alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from luthier.trackers.contract import Followed, Scalars, TrackerEntry

FOLDER = "tensorboard"


class TensorBoardConfig(BaseModel):
    """No options: `tensorboard --logdir RUN/4-train` shows every variant."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TensorBoard:
    """The event files of one training; each time it is opened begins a new one, as TensorBoard expects."""

    def __init__(self, followed: Followed) -> None:
        """Read how far the folder has got, and begin the next file in it."""
        from torch.utils.tensorboard.writer import SummaryWriter

        folder = followed.folder / FOLDER
        self._last = last_steps(folder) if folder.is_dir() else None
        self._writer = SummaryWriter(str(folder))
        if self._last is None:
            self._write_settings(followed)

    def last(self, name: str) -> int:
        """The last step of this name in the files that were there."""
        return (self._last or {}).get(name, -1)

    def write(self, points: Sequence[Scalars]) -> None:
        """Append the points and push them to the file."""
        for step, values in points:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)
        self._writer.flush()

    def close(self, finished: bool) -> None:
        """Close the file."""
        self._writer.close()

    def _write_settings(self, followed: Followed) -> None:
        """The settings as text, and for the hyperparameter table of the same name."""
        from torch.utils.tensorboard.summary import hparams

        settings = {
            name: value if isinstance(value, float | int) else str(value) for name, value in followed.settings.items()
        }
        rows = "\n".join(f"| {name} | {value} |" for name, value in settings.items())
        self._writer.add_text("settings", f"| setting | value |\n|---|---|\n{rows}", 0)
        for summary in hparams(settings, {"validation/loss": 0}):
            self._writer._get_file_writer().add_summary(summary)


def last_steps(folder: Path) -> dict[str, int]:
    """The last step of every name in a folder of event files."""
    from tensorboard.backend.event_processing.event_accumulator import SCALARS, EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={SCALARS: 1})
    events.Reload()
    return {name: events.Scalars(name)[-1].step for name in events.Tags()["scalars"]}


TENSORBOARD = TrackerEntry(
    TensorBoardConfig,
    modules=("tensorboard.backend.event_processing.event_accumulator", "torch.utils.tensorboard"),
    packages="tensorboard",
    open=lambda followed, config: TensorBoard(followed),
)
