"""SageMaker: the request of CreateTrainingJob as JSON, for `aws sagemaker create-training-job`.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateTrainingJob.html
"""

from __future__ import annotations

from typing import Any

from luthier.core.errors import UserError
from luthier.core.files import json_text
from luthier.launch.contract import FILE, Job, Launch, Target
from luthier.launch.places import DATA

ROWS, SHARED = "/opt/ml/input/data/data", "/opt/ml/input/data/runs"
RUNS = (
    "/opt/ml/checkpoints"  # what lies here goes to the bucket while the job runs, and comes back when it is resumed
)
LONGEST = 2500  # characters of one hyperparameter
DAY = 24 * 3600  # seconds: the service's own default
DISK = 100  # GB


def _prepare(job: Job) -> Launch:
    options = job.options
    if len(hyperparameters(job.recipe_values)) > 100:
        raise UserError(f"{job.path} is too long for SageMaker, which takes 250,000 characters: shorten data.prompt")
    command = ("aws", "sagemaker", "create-training-job", "--region", str(options.region))
    return Launch((*command, "--cli-input-json", f"file://{FILE}"), f"{job.slug}.json", _json(_request(job)))


def _json(value: Any) -> str:
    return json_text(value, indent=2) + "\n"


def hyperparameters(values: dict[str, Any]) -> dict[str, str]:
    """The recipe's sections, each as one line of JSON; a long one in pieces `data`, `data.1`, `data.2` ..."""
    pieces: dict[str, str] = {}
    for section, value in values.items():
        line = json_text(value)
        for number, start in enumerate(range(0, len(line), LONGEST)):
            pieces[f"{section}.{number}" if number else section] = line[start : start + LONGEST]
    return pieces


def _request(job: Job) -> dict[str, Any]:
    options = job.options
    output = str(options.output).rstrip("/")
    environment = {"LUTHIER_RUNS": SHARED if options.shared else RUNS} | ({DATA: ROWS} if options.data else {})
    channels = ([_rows(options.data)] if options.data else []) + ([_shared(options.shared)] if options.shared else [])
    request: dict[str, Any] = {
        "TrainingJobName": job.slug,
        "RoleArn": options.role,
        "AlgorithmSpecification": {
            "TrainingImage": options.image,
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["python", "-m", "luthier.launch.worker"],
            "ContainerArguments": ["sagemaker", str(job.processes)],
        },
        "HyperParameters": hyperparameters(job.recipe_values),
        "Environment": environment,
        "OutputDataConfig": {"S3OutputPath": output},
        "ResourceConfig": {
            "InstanceType": options.instance,
            "InstanceCount": job.nodes,
            "VolumeSizeInGB": options.disk or DISK,
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": options.seconds or DAY},
    }
    if channels:
        request["InputDataConfig"] = channels
    if options.shared:
        return request | {"VpcConfig": _network(options.network)}
    return request | {"CheckpointConfig": {"S3Uri": f"{output}/{job.slug}", "LocalPath": RUNS}}


def _rows(folder: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": folder, "S3DataDistributionType": "FullyReplicated"}
    return {"ChannelName": "data", "DataSource": {"S3DataSource": source}}


def _shared(place: str) -> dict[str, Any]:
    system, _, folder = place.partition(":")
    if not system.startswith("fs-") or not folder.startswith("/"):
        raise UserError(f"--shared {place}: write the EFS and a folder on it, fs-ID:/folder")
    source = {"FileSystemId": system, "FileSystemType": "EFS", "FileSystemAccessMode": "rw", "DirectoryPath": folder}
    return {"ChannelName": "runs", "DataSource": {"FileSystemDataSource": source}}


def _network(written: str | None) -> dict[str, Any]:
    subnet, _, group = (written or "").partition(",")
    if not subnet.startswith("subnet-") or not group.startswith("sg-"):
        raise UserError("--shared is reached through a network: write --network subnet-ID,sg-ID")
    return {"Subnets": [subnet], "SecurityGroupIds": [group]}


SAGEMAKER = Target(
    prepare=_prepare,
    needs=("image", "instance", "role", "output", "region"),
    takes=("data", "time", "disk", "shared", "network"),
    sees=(ROWS,),
    data="data",
    together="shared",
    advice="copy it to S3, give that folder with --data s3://bucket/rows, and write ${LUTHIER_DATA}/ and its name",
)
