"""`luthier launch`: a recipe on other machines."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from luthier.cli.options import Debug, Json, Overrides, RecipeFile
from luthier.cli.verb import Work, carry_out
from luthier.launch.options import WORDS, Options


def _option(name: str) -> Any:
    return typer.Option(f"--{name}", help=WORDS[name], show_default=False)


def launch(
    context: typer.Context,
    recipe: RecipeFile,
    on: Annotated[
        str,
        typer.Option(
            help="torchrun, ray, slurm, kubernetes, skypilot, sagemaker, vertex or azure.", show_default=False
        ),
    ],
    overrides: Overrides = None,
    nodes: Annotated[int, typer.Option(help="Machines.", min=1)] = 1,
    gpus: Annotated[
        int | None, typer.Option(help="GPUs of each machine; default: 1, or this machine's.", min=0)
    ] = None,
    processes: Annotated[
        int | None, typer.Option(help="Workers on each machine without GPUs; default: 1.", min=1)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The folder for the job file; default: stdout.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="torchrun and ray: only say the command.")] = False,
    image: Annotated[str | None, _option("image")] = None,
    instance: Annotated[str | None, _option("instance")] = None,
    accelerator: Annotated[str | None, _option("accelerator")] = None,
    region: Annotated[str | None, _option("region")] = None,
    data: Annotated[str | None, _option("data")] = None,
    output: Annotated[str | None, _option("output")] = None,
    claim: Annotated[str | None, _option("claim")] = None,
    shared: Annotated[str | None, _option("shared")] = None,
    network: Annotated[str | None, _option("network")] = None,
    namespace: Annotated[str | None, _option("namespace")] = None,
    compute: Annotated[str | None, _option("compute")] = None,
    role: Annotated[str | None, _option("role")] = None,
    partition: Annotated[str | None, _option("partition")] = None,
    account: Annotated[str | None, _option("account")] = None,
    time: Annotated[str | None, _option("time")] = None,
    cpus: Annotated[int | None, typer.Option(help=WORDS["cpus"], min=1)] = None,
    memory: Annotated[int | None, typer.Option(help=WORDS["memory"], min=1)] = None,
    disk: Annotated[int | None, typer.Option(help=WORDS["disk"], min=1)] = None,
    install: Annotated[str | None, _option("install")] = None,
    secret: Annotated[list[str] | None, _option("secret")] = None,
    address: Annotated[str | None, _option("address")] = None,
    json: Json = False,
    debug: Debug = False,
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
    values = {name: context.params[name] for name in WORDS}

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
