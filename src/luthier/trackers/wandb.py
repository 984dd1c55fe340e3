"""Weights & Biases: offline beside the run unless the user is logged in."""

from __future__ import annotations

import netrc
import os
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from luthier.core.events import emit
from luthier.trackers.contract import Followed, Scalars, TrackerEntry

FOLDER = "wandb"
SERVER = "https://api.wandb.ai"
CONNECTION = 20.0  # seconds after which a server that does not answer counts as one that is not there


class WandbConfig(BaseModel):
    """Where the runs go; the key comes from `WANDB_API_KEY` or `wandb login` alone."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    project: str = "luthier"
    """The project that the runs belong to."""
    entity: str | None = None
    """The user or team; default: yours."""
    mode: Literal["auto", "offline", "online"] = "auto"
    """auto: `WANDB_MODE` where it is set, else online for who is logged in and offline for everybody else."""


class Wandb:
    """One run; offline it is one folder that holds all of it, which `wandb sync` sends."""

    def __init__(self, followed: Followed, config: WandbConfig) -> None:
        """Go on with the run that this training has begun, or begin it with the settings as its configuration."""
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # nothing is sent but what the user asked for
        os.environ.setdefault("WANDB_SILENT", "true")
        import wandb

        self._online = mode(config.mode) == "online"
        known = followed.identity("wandb") or secrets.token_hex(4)
        followed.keep_identity("wandb", known)
        folder = followed.run.resolve()
        if not self._online:
            # a second folder of the same run would replace the first on the server: the one is written anew
            forget(folder / FOLDER, known)
        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            disable_code=True,
            x_disable_stats=True,  # the journal has the machine's figures
            init_timeout=CONNECTION,
        )
        self._run = wandb.init(
            project=config.project,
            entity=config.entity,
            id=known,
            name=followed.title,
            group=folder.name,
            dir=str(folder),
            mode="online" if self._online else "offline",
            resume="allow" if self._online else None,
            config=dict(followed.settings),
            settings=settings,
        )
        self._held = self._run.step - 1 if self._online and self._run.resumed else -1
        self._place = Path(self._run.dir).parent

    def last(self, name: str) -> int:
        """The last step on the server: W&B takes steps in their order only, whatever their names."""
        return self._held

    def write(self, points: Sequence[Scalars]) -> None:
        """Hand the points to W&B's own process."""
        for step, values in points:
            self._run.log(dict(values), step=step)

    def close(self, finished: bool) -> None:
        """Finish the run; offline, say how it is sent."""
        self._run.finish()
        if finished and not self._online:
            emit(
                "train.tracker", f"W&B was offline: `wandb sync {self._place}` sends the run", folder=str(self._place)
            )


def mode(asked: str) -> str:
    """`online` or `offline`, as the recipe, `WANDB_MODE` or a login says; `disabled` counts as offline."""
    if asked == "auto":
        asked = os.environ.get("WANDB_MODE") or ("online" if logged_in() else "offline")
    return "online" if asked in ("online", "shared") else "offline"


def logged_in() -> bool:
    """Whether a key is in the environment or, by `wandb login`, in the netrc file."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlsplit(os.environ.get("WANDB_BASE_URL", SERVER)).hostname or ""
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def forget(folder: Path, run: str) -> None:
    """Delete the offline folders of this run."""
    for old in folder.glob(f"offline-run-*-{run}"):
        shutil.rmtree(old)


def _open(followed: Followed, config: Any) -> Wandb:
    return Wandb(followed, config)


WANDB = TrackerEntry(WandbConfig, modules=("wandb",), packages="wandb", open=_open)
