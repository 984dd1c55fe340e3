"""SkyPilot: a task in YAML for `sky launch`. https://docs.skypilot.co/en/latest/reference/yaml-spec.html"""

from __future__ import annotations

from shlex import quote
from typing import Any

from luthier import __version__
from luthier.core.errors import UserError
from luthier.launch.contract import FILE, Job, Launch, Target
from luthier.launch.places import DATA
from luthier.launch.script import heredoc, workers
from luthier.launch.yamlfile import dump

MOUNT, RUNS = "/data", "/runs"


def _prepare(job: Job) -> Launch:
    options = job.options
    task: dict[str, Any] = {"name": job.slug, "num_nodes": job.nodes, "resources": _resources(job)}
    environment = ({DATA: MOUNT} if options.data else {}) | ({"LUTHIER_RUNS": RUNS} if options.shared else {})
    if environment:
        task["envs"] = environment
    if options.data:
        task["file_mounts"] = {MOUNT: options.data}
    if options.shared:
        task["volumes"] = {RUNS: options.shared}
    if options.secret:
        task["secrets"] = dict.fromkeys(options.secret)  # `sky launch --secret NAME` fills them in
    if options.install or not options.image:
        task["setup"] = f"python -m pip install {quote(options.install or f'luthier=={__version__}')}\n"
    task["run"] = _run(job)
    secrets = [word for name in options.secret for word in ("--secret", name)]
    return Launch(("sky", "launch", "-c", job.slug, *secrets, FILE), f"{job.slug}.sky.yaml", dump(task))


def _resources(job: Job) -> dict[str, Any]:
    options = job.options
    if job.gpus and not (options.accelerator or options.instance):
        raise UserError("--on skypilot needs --accelerator, such as A100, or --gpus 0 to train without a GPU")
    resources = {
        "infra": options.region,
        "instance_type": options.instance,
        "accelerators": f"{options.accelerator}:{job.gpus}" if job.gpus and options.accelerator else None,
        "cpus": f"{options.cpus}+" if options.cpus else None,
        "memory": f"{options.memory}+" if options.memory else None,
        "disk_size": options.disk,
        "image_id": f"docker:{options.image}" if options.image else None,
    }
    return {name: value for name, value in resources.items() if value is not None}


def _run(job: Job) -> str:
    command = workers(job, "recipe.yaml", '"$SKYPILOT_NODE_RANK"', '"$FIRST_NODE"')
    first = 'FIRST_NODE="$(head -n 1 <<< "$SKYPILOT_NODE_IPS")"\n' if job.nodes > 1 else ""
    return f"set -euo pipefail\n{heredoc('recipe.yaml', job.text)}{first}{command}\n"


SKYPILOT = Target(
    prepare=_prepare,
    takes=(
        "accelerator",
        "region",
        "instance",
        "image",
        "install",
        "data",
        "secret",
        "cpus",
        "memory",
        "disk",
        "shared",
    ),
    sees=(MOUNT,),
    data="data",
    together="shared",
    advice="give its folder, here or in a bucket, with --data, and write ${LUTHIER_DATA}/ and its name",
)
