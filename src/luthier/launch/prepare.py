"""From a recipe and what was asked for to a job, prepared for its target; nothing is started or written yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from luthier.core.errors import UserError
from luthier.launch import TARGETS
from luthier.launch.contract import Job, Launch
from luthier.launch.options import Options, check, explained
from luthier.launch.places import check_places
from luthier.pipeline.validate import validate
from luthier.recipe.load import load
from luthier.recipe.schema import Recipe

PLACEMENT = "train.placement=fsdp"


def prepare(
    on: str,
    path: Path,
    overrides: Sequence[str] = (),
    nodes: int = 1,
    gpus: int | None = None,
    processes: int | None = None,
    options: Options | None = None,
) -> Launch:
    """The job of a recipe on a target: `processes` workers (default: one for each GPU) on each of `nodes` machines.

    Raises UserError for an unknown target, an option that the target lacks or does not know, and a recipe that is
    wrong or names files that the target's machines do not see.
    """
    options = options or Options()
    target = TARGETS[on]
    check(on, options, target.needs, target.takes)
    _check_together(on, target.together, nodes, options)
    if gpus is None:
        gpus = _gpus_here() if target.here(options) else 1
    if gpus and processes not in (None, gpus):
        raise UserError(f"--processes {processes} is for machines without GPUs: write --gpus 0, or leave it out")
    if options.accelerator and not gpus:
        raise UserError("--accelerator does nothing without a GPU: leave it out, or write --gpus 1")
    processes = processes or max(gpus, 1)
    recipe, overrides = _placed(path, tuple(overrides), nodes * processes)
    validate(recipe, resolved=True)  # another machine may have the devices and libraries that this one lacks
    job = Job(recipe, path, overrides, nodes, gpus, processes, options)
    check_places(on, target, job)
    return target.prepare(job)


def _check_together(on: str, together: str | None, nodes: int, options: Options) -> None:
    """Several machines write one run folder, and so need one file system."""
    if nodes == 1 or together == "":
        return
    if together is None:
        raise UserError(
            f"--nodes {nodes}: machines on {on} share no folder for the run: write --nodes 1, with more --gpus"
        )
    if together not in options.given:
        raise UserError(f"--nodes {nodes} on {on} needs {explained(together)}")


def _placed(path: Path, overrides: tuple[str, ...], workers: int) -> tuple[Recipe, tuple[str, ...]]:
    """The recipe, and the overrides that make it: several workers share the model, unless the recipe says how."""
    recipe = load(path, overrides)
    if workers > 1 and "placement" not in recipe.train.model_fields_set:
        overrides = (*overrides, PLACEMENT)
        recipe = load(path, overrides)
    for name in recipe.train.names if workers > 1 else ():
        if recipe.train.variant(name).placement.name == "one":
            raise UserError(
                f"{name} trains on one device (placement: one) and {workers} workers were asked for: write fsdp"
            )
    return recipe, overrides


def _gpus_here() -> int:
    import torch

    return torch.cuda.device_count()
