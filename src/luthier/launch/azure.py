"""Azure ML: a command job in YAML, for `az ml job create`.

https://learn.microsoft.com/azure/machine-learning/reference-yaml-job-command
"""

from __future__ import annotations

from typing import Any

from luthier.core.errors import UserError
from luthier.launch.contract import FILE, Job, Launch, Target
from luthier.launch.places import DATA
from luthier.launch.script import workers
from luthier.launch.yamlfile import dump

SCHEMA = "https://azuremlschemas.azureedge.net/latest/commandJob.schema.json"


def _prepare(job: Job) -> Launch:
    if "${{" in job.text:
        raise UserError(f"{job.path} holds `${{{{`, which Azure ML would replace: write it otherwise in data.prompt")
    return Launch(("az", "ml", "job", "create", "--file", FILE), f"{job.slug}.azure.yaml", dump(_job(job)))


def _job(job: Job) -> dict[str, Any]:
    options = job.options
    described: dict[str, Any] = {
        "$schema": SCHEMA,
        "type": "command",
        "display_name": job.name,
        "experiment_name": "luthier",
        "command": _command(job),
        "environment": {"image": options.image},
        "environment_variables": {"LUTHIER_RECIPE": job.text},
        "compute": f"azureml:{options.compute}",
        "resources": {"instance_count": 1} | ({"shm_size": "16g"} if job.processes > 1 else {}),
        "outputs": {"runs": {"type": "uri_folder", "mode": "upload"}},
    }
    if options.data:
        described["inputs"] = {"data": {"type": "uri_folder", "path": options.data, "mode": "ro_mount"}}
    if options.seconds:
        described["limits"] = {"timeout": options.seconds}
    return described


def _command(job: Job) -> str:
    """One line: what the recipe holds reaches the machine as an environment variable, past every shell."""
    steps = ['printf %s "$LUTHIER_RECIPE" > recipe.yaml', "export LUTHIER_RUNS=${{outputs.runs}}"]
    if job.options.data:
        steps.append(f"export {DATA}=${{{{inputs.data}}}}")
    return " && ".join([*steps, workers(job, "recipe.yaml")])


AZURE = Target(
    prepare=_prepare,
    needs=("image", "compute"),
    takes=("data", "time"),
    sees=(),
    data="data",
    together=None,
    advice="upload its folder, give it with --data azureml:NAME:VERSION, and write ${LUTHIER_DATA}/ and its name",
)
