"""What a target may ask for beside nodes and GPUs, and the words that explain it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Any

from luthier.core.errors import UserError

WORDS = {
    "image": "A container image that holds luthier.",
    "instance": "The machine type, such as ml.g5.12xlarge or a2-highgpu-4g.",
    "accelerator": "The kind of GPU, as the target calls it: A100, NVIDIA_TESLA_A100.",
    "region": "The region; for skypilot cloud/region, such as aws/us-east-1.",
    "compute": "The compute cluster of the workspace.",
    "role": "The ARN of the IAM role that the job runs as.",
    "output": "The bucket's folder that the runs go to: s3://bucket/runs, gs://bucket/runs.",
    "data": "Where the rows lie, a bucket's folder: the recipe's ${LUTHIER_DATA}.",
    "claim": "The PersistentVolumeClaim with the rows; the runs go there too.",
    "shared": "A folder for the run that all machines see: on EFS, fs-ID:/folder; on NFS, server:/folder; a volume.",
    "network": "vertex: the VPC network; sagemaker: subnet-ID,sg-ID, a subnet and a security group.",
    "namespace": "The namespace of the job.",
    "time": "The longest the job may take, H:MM:SS or D-HH:MM:SS.",
    "partition": "The partition of the cluster.",
    "account": "The account that pays.",
    "address": "torchrun: host:port of the first machine; ray: the cluster's, default: one started here.",
    "install": "What pip installs on the machines; default: this version of luthier.",
    "secret": "An environment variable that the job needs, by its name only; may be repeated.",
    "cpus": "Processor cores of each machine.",
    "memory": "GiB of memory of each machine.",
    "disk": "GB of disk of each machine.",
}
_TIME = re.compile(r"(?:(\d+)-)?(\d{1,3}):([0-5]\d):([0-5]\d)")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Options:
    """The options of `luthier launch` that depend on the target; None or empty: not given."""

    image: str | None = None
    instance: str | None = None
    accelerator: str | None = None
    region: str | None = None
    compute: str | None = None
    role: str | None = None
    output: str | None = None
    data: str | None = None
    claim: str | None = None
    shared: str | None = None
    network: str | None = None
    namespace: str | None = None
    time: str | None = None
    partition: str | None = None
    account: str | None = None
    address: str | None = None
    install: str | None = None
    secret: tuple[str, ...] = ()
    cpus: int | None = None
    memory: int | None = None
    disk: int | None = None

    def __post_init__(self) -> None:
        for name, value in self.given.items():
            if isinstance(value, str) and (not value.strip() or any(ord(c) < 32 for c in value)):
                raise UserError(f"--{name} {value!r}: write one line of text")
        for name in self.secret:
            if not _VARIABLE.fullmatch(name):
                raise UserError(
                    f"--secret takes the name of an environment variable, such as HF_TOKEN, and never its value; "
                    f"what was given ({len(name)} characters) is no name"
                )

    @property
    def given(self) -> dict[str, Any]:
        """The options that were given, by name."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value not in (None, ())}

    @property
    def seconds(self) -> int | None:
        """`time` in seconds; UserError where it is written otherwise."""
        if self.time is None:
            return None
        match = _TIME.fullmatch(self.time)
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0, 0)
        total = ((days * 24 + hours) * 60 + minutes) * 60 + seconds
        if total == 0:
            raise UserError(f"--time {self.time}: write H:MM:SS or D-HH:MM:SS, such as 4:00:00")
        return total


def explained(name: str) -> str:
    """An option and what it is, within a sentence."""
    words = WORDS[name].rstrip(".")
    return f"--{name}: {words[0].lower()}{words[1:]}"


def check(target: str, options: Options, needs: tuple[str, ...], takes: tuple[str, ...]) -> None:
    """UserError for an option that the target needs and lacks, or that would change nothing there."""
    missing = [name for name in needs if name not in options.given]
    if missing:
        words = "; ".join(explained(name) for name in missing)
        raise UserError(f"--on {target} needs {' and '.join(f'--{name}' for name in missing)} ({words})")
    known = (*needs, *takes)
    for name in options.given:
        if name not in known:
            listed = ", ".join(f"--{option}" for option in known) or "no further options"
            raise UserError(f"--{name} does nothing on {target}: leave it out ({target} takes {listed})")
