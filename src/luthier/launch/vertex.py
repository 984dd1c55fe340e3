"""Vertex AI: the CustomJobSpec in YAML, for `gcloud ai custom-jobs create --config`.

https://cloud.google.com/vertex-ai/docs/reference/rest/v1/CustomJobSpec
"""

from __future__ import annotations

from typing import Any

from luthier.core.errors import UserError
from luthier.launch.contract import FILE, Job, Launch, Target
from luthier.launch.places import DATA
from luthier.launch.yamlfile import dump

BUCKETS = "/gcs"  # each bucket that the job may read is a folder below it
SHARED = "/mnt/nfs/runs"
DISK = 100  # GB, the service's own default


def _prepare(job: Job) -> Launch:
    if job.gpus and not job.options.accelerator:
        raise UserError("--on vertex needs --accelerator, such as NVIDIA_L4, or --gpus 0 to train without a GPU")
    if "$(" in job.text:
        raise UserError(f"{job.path} holds `$(`, which Vertex AI would replace: write it otherwise in data.prompt")
    command = ("gcloud", "ai", "custom-jobs", "create", "--region", str(job.options.region))
    return Launch(
        (*command, "--display-name", job.slug, "--config", FILE), f"{job.slug}.vertex.yaml", dump(_spec(job))
    )


def folder(option: str, place: str | None) -> str:
    """The path under which a job sees `gs://bucket/folder`."""
    bucket = (place or "").removeprefix("gs://").rstrip("/")
    if not (place or "").startswith("gs://") or not bucket:
        raise UserError(f"--{option} {place}: write a folder of a bucket, gs://bucket/folder")
    return f"{BUCKETS}/{bucket}"


def _spec(job: Job) -> dict[str, Any]:
    """The first pool is the first machine; the second, if there is one, the others."""
    pools = [_pool(job, 1)] + ([_pool(job, job.nodes - 1)] if job.nodes > 1 else [])
    spec: dict[str, Any] = {"workerPoolSpecs": pools}
    if job.options.shared:
        if not job.options.network:
            raise UserError(
                "--shared is reached through a network: write --network projects/NUMBER/global/networks/NAME"
            )
        spec["network"] = job.options.network
    return spec | ({"scheduling": {"timeout": f"{job.options.seconds}s"}} if job.options.seconds else {})


def _pool(job: Job, replicas: int) -> dict[str, Any]:
    options = job.options
    machine: dict[str, Any] = {"machineType": options.instance}
    if job.gpus:
        machine |= {"acceleratorType": options.accelerator, "acceleratorCount": job.gpus}
    environment = {"LUTHIER_KEEP": folder("output", options.output)}
    environment |= {"LUTHIER_RUNS": SHARED} if options.shared else {}
    environment |= {DATA: folder("data", options.data)} if options.data else {}
    container = {
        "imageUri": options.image,
        "command": ["python", "-m", "luthier.launch.worker"],
        "args": ["vertex", str(job.processes), job.text],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
    }
    disk = {"bootDiskSizeGb": options.disk or DISK}
    pool = {"machineSpec": machine, "replicaCount": replicas, "diskSpec": disk, "containerSpec": container}
    return pool | ({"nfsMounts": [_shared(options.shared)]} if options.shared else {})


def _shared(place: str) -> dict[str, str]:
    server, _, path = place.partition(":")
    if not server or not path.startswith("/"):
        raise UserError(f"--shared {place}: write the NFS server and its folder, server:/folder")
    return {"server": server, "path": path, "mountPoint": "runs"}


VERTEX = Target(
    prepare=_prepare,
    needs=("image", "instance", "output", "region"),
    takes=("accelerator", "data", "time", "disk", "shared", "network"),
    sees=(BUCKETS,),
    data="data",
    together="shared",
    advice="copy it to a bucket and write /gcs/bucket/ and its name",
)
