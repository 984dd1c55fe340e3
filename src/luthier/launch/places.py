"""Files and folders of this machine that a recipe names, and whether another machine sees them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from luthier.core.errors import UserError
from luthier.data.readers.libraries import is_hub_id
from luthier.launch.contract import Job, Target
from luthier.recipe.schema import Recipe

DATA = "LUTHIER_DATA"
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")


def local_places(recipe: Recipe) -> Iterator[tuple[str, str]]:
    """Each dotted key of the recipe that holds a path, with that path as it is written."""
    if not recipe.model.base.startswith(("builtin:", "blank:")) and _is_folder(recipe.model.base):
        yield "model.base", recipe.model.base
    for name, source in recipe.data.sources.items():
        if _is_file(source.source):
            yield f"data.sources.{name}", source.source
    for part in ("validation", "test", "general"):
        size = getattr(recipe.data.split, part)
        if isinstance(size, str) and size not in recipe.data.sources and _is_file(size):
            yield f"data.split.{part}", size


def _is_folder(base: str) -> bool:
    """Whether a base is a folder and no hub id: the rule of `luthier.models.resolve`, without looking at the disk."""
    return base.startswith((".", "/", "~", "$")) or base.count("/") != 1


def _is_file(source: str) -> bool:
    return not source.startswith("builtin:") and ("dataset_info.json" in source or not is_hub_id(source))


def check_places(target: str, places: Target, job: Job) -> None:
    """UserError for the first path that the target's machines do not see."""
    if places.sees is None:
        return
    for key, path in local_places(job.recipe):
        variable = _VARIABLE.match(path)
        if variable and variable[1] == DATA and places.data:
            if places.data in job.options.given:
                continue
            raise UserError(f"{key} = '{path}': the job has no {DATA} without --{places.data}: give it")
        if not any(PurePosixPath(path).is_relative_to(folder) for folder in places.sees):
            raise UserError(
                f"{key} = '{path}' is of this machine, and a job on {target} does not see it: {places.advice}"
            )
