"""Slurm: a batch script for sbatch, one torchrun on each node. https://slurm.schedmd.com/sbatch.html"""

from __future__ import annotations

import re
from collections.abc import Iterator
from shlex import quote

from luthier.core.errors import UserError
from luthier.launch.contract import FILE, Job, Launch, Target
from luthier.launch.script import heredoc, workers

_NAME = re.compile(r"[\w.,@:+-]+")

# jobs of one user may share a machine, so the port follows the job
_SCRIPT = """set -euo pipefail

export RECIPE="recipe-$SLURM_JOB_ID.yaml"
{recipe}trap 'rm -f "$RECIPE"' EXIT

export FIRST_NODE="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
export PORT="$((20000 + SLURM_JOB_ID % 20000))"
srun bash -c {command}
"""


def _prepare(job: Job) -> Launch:
    directives = "".join(f"#SBATCH --{name}={value}\n" for name, value in _directives(job))
    command = workers(job, '"$RECIPE"', '"$SLURM_NODEID"', '"$FIRST_NODE"', '"$PORT"')
    script = _SCRIPT.format(recipe=heredoc('"$RECIPE"', job.text), command=quote(command))
    name = f"{job.slug}.sbatch"
    return Launch(("sbatch", FILE), name, f"#!/bin/bash\n{directives}{script}")


def _directives(job: Job) -> Iterator[tuple[str, str | int]]:
    options = job.options
    yield "job-name", job.name
    yield "output", "%x-%j.log"
    yield "nodes", job.nodes
    yield "ntasks-per-node", 1
    if job.gpus:
        yield (
            "gpus-per-node",
            f"{_word('accelerator', options.accelerator)}:{job.gpus}" if options.accelerator else job.gpus,
        )
    if options.cpus:
        yield "cpus-per-task", options.cpus
    if options.memory:
        yield "mem", f"{options.memory}G"
    if options.seconds:
        yield "time", _time(options.seconds)
    for name in ("partition", "account"):
        if value := getattr(options, name):
            yield name, _word(name, value)


def _time(seconds: int) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}-{hours:02}:{minutes:02}:{seconds:02}"


def _word(option: str, value: str) -> str:
    """A value that sbatch reads as it stands."""
    if not _NAME.fullmatch(value):
        raise UserError(f"--{option} {value!r} is no name of Slurm's: write letters, digits, dots and dashes")
    return value


SLURM = Target(
    prepare=_prepare,
    takes=("partition", "account", "time", "cpus", "memory", "accelerator"),
)
