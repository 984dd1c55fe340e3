"""Kubernetes: an indexed batch/v1 Job with a headless Service, the recipe in a ConfigMap; no operator is needed.

https://kubernetes.io/docs/tasks/job/job-with-pod-to-pod-communication/
"""

from __future__ import annotations

from typing import Any

from luthier.launch.contract import FILE, Job, Launch, Target
from luthier.launch.places import DATA
from luthier.launch.script import PORT, workers
from luthier.launch.yamlfile import dump

MOUNT = "/data"
RECIPE = "/recipe/recipe.yaml"
SECRETS = "luthier"  # the Secret that holds what --secret names


def _prepare(job: Job) -> Launch:
    files = [_recipe(job), *([_service(job)] if job.nodes > 1 else []), _job(job)]
    return Launch(("kubectl", "apply", "-f", FILE), f"{job.slug}.k8s.yaml", dump(*files))


def _meta(job: Job) -> dict[str, Any]:
    return {"name": job.slug, "labels": {"app": "luthier"}} | (
        {"namespace": job.options.namespace} if job.options.namespace else {}
    )


def _recipe(job: Job) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": _meta(job), "data": {"recipe.yaml": job.text}}


def _service(job: Job) -> dict[str, Any]:
    """The headless Service that gives each pod a name the others find."""
    spec = {
        "clusterIP": "None",
        "selector": {"batch.kubernetes.io/job-name": job.slug},
        "publishNotReadyAddresses": True,  # the workers wait for each other before any is ready
        "ports": [{"name": "torchrun", "port": PORT}],
    }
    return {"apiVersion": "v1", "kind": "Service", "metadata": _meta(job), "spec": spec}


def _job(job: Job) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "completions": job.nodes,
        "parallelism": job.nodes,
        "completionMode": "Indexed",
        "backoffLimit": 2 * job.nodes,  # a pod that ends early is started again, and the run goes on
        "template": {"metadata": {"labels": {"app": "luthier"}}, "spec": _pod(job)},
    }
    if job.options.seconds:
        spec["activeDeadlineSeconds"] = job.options.seconds
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": _meta(job), "spec": spec}


def _pod(job: Job) -> dict[str, Any]:
    volumes = [
        {"name": "recipe", "configMap": {"name": job.slug}},
        {"name": "data", "persistentVolumeClaim": {"claimName": job.options.claim}},
    ]
    if job.processes > 1:  # a container's own 64 MiB are too few for workers that talk through shared memory
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory"}})
    pod: dict[str, Any] = {"restartPolicy": "Never", "automountServiceAccountToken": False}
    if job.nodes > 1:
        pod["subdomain"] = job.slug
    return pod | {"containers": [_container(job)], "volumes": volumes}


def _container(job: Job) -> dict[str, Any]:
    command = workers(job, RECIPE, '"$JOB_COMPLETION_INDEX"', f"{job.slug}-0.{job.slug}")
    mounts = [{"name": "recipe", "mountPath": "/recipe"}, {"name": "data", "mountPath": MOUNT}]
    if job.processes > 1:
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    env: list[dict[str, Any]] = [
        {"name": DATA, "value": MOUNT},
        {"name": "LUTHIER_RUNS", "value": f"{MOUNT}/runs"},
        *(
            {"name": name, "valueFrom": {"secretKeyRef": {"name": SECRETS, "key": name}}}
            for name in job.options.secret
        ),
    ]
    return {
        "name": "luthier",
        "image": job.options.image,
        "command": ["sh", "-c", command],
        "env": env,
        "resources": _resources(job),
        "volumeMounts": mounts,
    }


def _resources(job: Job) -> dict[str, Any]:
    options = job.options
    requests = {"cpu": options.cpus, "memory": f"{options.memory}Gi" if options.memory else None}
    resources: dict[str, Any] = {"requests": {name: str(value) for name, value in requests.items() if value}}
    return resources | ({"limits": {"nvidia.com/gpu": str(job.gpus)}} if job.gpus else {})


KUBERNETES = Target(
    prepare=_prepare,
    needs=("image", "claim"),
    takes=("namespace", "time", "cpus", "memory", "secret"),
    sees=(MOUNT,),
    data="claim",
    advice="put it on the volume of --claim and write ${LUTHIER_DATA}/ and its name",
)
