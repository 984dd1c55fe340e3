"""`luthier launch`: a recipe on other machines."""

from __future__ import annotations

import sys
from collections.abc import Callable
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any

import typer

from luthier.cli.options import Debug, Json, Overrides, RecipeFile
from luthier.cli.verb import Work, carry_out
from luthier.launch.options import WORDS, Options

On = Annotated[
    str,
    typer.Option(help="torchrun, ray, slurm, kubernetes, skypilot, sagemaker, vertex or azure.", show_default=False),
]
Nodes = Annotated[int, typer.Option(help="Machines.", min=1)]
Gpus = Annotated[int | None, typer.Option(help="GPUs of each machine; default: 1, or this machine's.", min=0)]
Processes = Annotated[int | None, typer.Option(help="Workers on each machine without GPUs; default: 1.", min=1)]
JobFolder = Annotated[Path | None, typer.Option(help="The folder for the job file; default: stdout.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="torchrun and ray: only say the command.")]
COUNTS, LISTS = ("cpus", "memory", "disk"), ("secret",)  # of the options by target; the others are text


def _by_target(verb: Callable[..., None]) -> Callable[..., None]:
    """The verb with an option for each of `WORDS` before those that it takes by name alone."""
    own = signature(verb, eval_str=True)
    first, last = (
        [one for one in own.parameters.values() if one.kind is kind]
        for kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    )
    more = [Parameter(name, Parameter.KEYWORD_ONLY, default=None, annotation=_option(name)) for name in WORDS]
    every = [*first, *more, *last]
    verb.__signature__ = own.replace(parameters=every)  # pyright: ignore[reportFunctionMemberAccess]
    verb.__annotations__ = {one.name: one.annotation for one in every}
    return verb


def _option(name: str) -> Any:
    kind = int if name in COUNTS else list[str] if name in LISTS else str
    least = 1 if name in COUNTS else None
    return Annotated[kind | None, typer.Option(f"--{name}", help=WORDS[name], min=least, show_default=False)]


@_by_target
def launch(
    recipe: RecipeFile,
    on: On,
    overrides: Overrides = None,
    nodes: Nodes = 1,
    gpus: Gpus = None,
    processes: Processes = None,
    out: JobFolder = None,
    dry_run: DryRun = False,
    *,
    json: Json = False,
    debug: Debug = False,
    **values: Any,
) -> None:
    """Run a recipe on several processes or machines, or write the job file that does and say what submits it.

    \b
    torchrun    --on torchrun --gpus 4
    ray         --on ray --address auto --nodes 2 --gpus 4
    slurm       --on slurm --nodes 2 --gpus 4 --time 4:00:00 --out jobs
    kubernetes  --on kubernetes --image you/luthier:1 --claim rows --nodes 2 --gpus 4 --out jobs
    skypilot    --on skypilot --accelerator A100 --gpus 8 --out jobs
    sagemaker   --on sagemaker --image ACCOUNT.dkr.ecr.eu-west-1.amazonaws.com/luthier:1 --region eu-west-1
                --instance ml.g5.12xlarge --gpus 4 --role arn:aws:iam::ACCOUNT:role/training
                --output s3://bucket/runs --data s3://bucket/rows --out jobs
    vertex      --on vertex --image eu-docker.pkg.dev/you/luthier:1 --region europe-west4
                --instance g2-standard-12 --accelerator NVIDIA_L4 --output gs://bucket/runs --out jobs
    azure       --on azure --image you.azurecr.io/luthier:1 --compute gpus --gpus 4 --out jobs
    """

    def do(work: Work) -> dict[str, Any]:
        from luthier.launch.deliver import deliver
        from luthier.launch.prepare import prepare

        options = Options(**{**values, "secret": tuple(values["secret"] or ())})
        return deliver(on, prepare(on, recipe, overrides or [], nodes, gpus, processes, options), out, dry_run)

    carry_out(do, _show, json, debug)


def _show(document: dict[str, Any]) -> None:
    """The job file on stdout, to be piped, or where it lies; and the command, on stderr beside a file."""
    if "text" in document:
        print(document["text"], end="")
        print(f"# saved as a file, this is submitted by: {document['command']}", file=sys.stderr)
    elif document["file"]:
        print(f"  file    {document['file']}\n  next    {document['command']}")
    elif document["status"] == "planned":
        print(document["command"])
