"""What every target is: which options it takes, what it can see, and how a job is prepared for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.launch.options import Options
from luthier.pipeline.folder import run_id
from luthier.recipe import yamltext
from luthier.recipe.schema import Recipe

FILE = "{file}"  # stands in a command for the path of the job file


@dataclass(frozen=True)
class Job:
    """A recipe and the machines for it: `processes` workers on each of `nodes` machines with `gpus` GPUs."""

    recipe: Recipe
    path: Path
    overrides: tuple[str, ...]
    nodes: int
    gpus: int
    processes: int
    options: Options

    @property
    def name(self) -> str:
        """The run's id, `<name>-<4 hex>`."""
        return run_id(self.recipe)

    @property
    def slug(self) -> str:
        """The run's id as a DNS label of at most 50 characters, which every target takes as a name."""
        stem, _, code = re.sub(r"[^a-z0-9]+", "-", f"luthier-{self.name}".lower()).rpartition("-")
        return f"{stem[:45].rstrip('-')}-{code}"

    @property
    def recipe_values(self) -> dict[str, Any]:
        """The recipe as it travels: what was written, overrides put in, defaults left out."""
        return self.recipe.model_dump(
            mode="json", exclude_unset=True, exclude={"evaluate": set(self.recipe.evaluate.idle)}
        )

    @property
    def text(self) -> str:
        """The recipe as it travels, in YAML."""
        return yamltext.write(self.recipe_values)

    @property
    def workers(self) -> int:
        """Processes on all machines together."""
        return self.nodes * self.processes


@dataclass(frozen=True)
class Launch:
    """A job prepared: `command` submits the file `name` with this `text`, or is what `run` does here and now."""

    command: tuple[str, ...]
    name: str = ""
    text: str = ""
    run: Callable[[], None] | None = None


@dataclass(frozen=True)
class Target:
    """Where a job can run. `prepare` is pure; what it returns may run or be written.

    `needs` and `takes` name the options of `Options` that must and may be given. `sees` are the folders whose paths
    mean the same there as in the recipe (None: all, one file system), `data` is the option that sets LUTHIER_DATA,
    `advice` says what to do with a file that the target does not see. Several machines need a folder that all of them
    share, for the run: `together` is the option that names one, empty where they share their files anyway, None where
    there is none to be had. `here`: whether the machines are like this one, so that its GPUs can be counted.
    """

    prepare: Callable[[Job], Launch]
    needs: tuple[str, ...] = ()
    takes: tuple[str, ...] = ()
    sees: tuple[str, ...] | None = None
    data: str | None = None
    advice: str = ""
    together: str | None = ""
    here: Callable[[Options], bool] = lambda options: False
