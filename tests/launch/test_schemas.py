"""Every job file against the schema that its service publishes, small and with all that its target takes."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import jsonschema
import pytest

from luthier.launch import TARGETS
from tests.launch.conftest import MORE, WANTED, directives, documents, large, small

SCHEMAS = Path(__file__).parent / "schemas"
# https://slurm.schedmd.com/sbatch.html
SBATCH = {
    "job-name": r"[\w.-]+",
    "output": r"[\w.%-]+",
    "nodes": r"[1-9]\d*",
    "ntasks-per-node": r"[1-9]\d*",
    "gpus-per-node": r"(\w+:)?[1-9]\d*",
    "cpus-per-task": r"[1-9]\d*",
    "mem": r"[1-9]\d*[KMGT]?",
    "time": r"\d+-\d\d:\d\d:\d\d",
    "partition": r"[\w,.-]+",
    "account": r"[\w.-]+",
}


def validator(name: str) -> jsonschema.Draft202012Validator:
    schema = json.loads((SCHEMAS / f"{name}.json").read_text())
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.parametrize("made", [small, large], ids=["small", "large"])
@pytest.mark.parametrize("on", [path.stem for path in sorted(SCHEMAS.glob("*.json"))])
def test_it_is_what_the_service_takes(on, made, recipe):
    found = documents(made(on, recipe))
    for document in found:
        errors = [f"{error.json_path}: {error.message[:200]}" for error in validator(on).iter_errors(document)]
        assert not errors


@pytest.mark.parametrize("on", [path.stem for path in sorted(SCHEMAS.glob("*.json"))])
def test_the_schema_finds_a_key_that_is_no_key(on, recipe):
    document = documents(small(on, recipe))[-1]
    planted = {**document, "replicas": 1}
    assert validator(on).is_valid(document) and not validator(on).is_valid(planted)


@pytest.mark.parametrize("made", [small, large], ids=["small", "large"])
def test_a_batch_script_is_bash_and_says_what_sbatch_knows(made, recipe):
    script = made("slurm", recipe).text
    assert subprocess.run(["bash", "-n"], input=script, text=True).returncode == 0
    for option, value in directives(script).items():
        assert re.fullmatch(SBATCH[option], value), (option, value)


def test_the_files_ask_for_the_machines_that_were_asked_for(recipe):
    assert directives(large("slurm", recipe).text) == {
        "job-name": "My.Odd_Name-1-" + large("slurm", recipe).name[-11:-7],
        "output": "%x-%j.log",
        "nodes": "2",
        "ntasks-per-node": "1",
        "gpus-per-node": "4",
        "cpus-per-task": "16",
        "mem": "64G",
        "time": "1-02:03:04",
        "partition": "gpu,long",
        "account": "abc_1",
    }
    config, service, job = documents(large("kubernetes", recipe))
    pod = job["spec"]["template"]["spec"]
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (2, 2)
    assert pod["containers"][0]["resources"]["limits"] == {"nvidia.com/gpu": "4"}
    assert job["spec"]["activeDeadlineSeconds"] == 4 * 3600
    assert pod["subdomain"] == service["metadata"]["name"] and service["spec"]["clusterIP"] == "None"
    assert service["spec"]["selector"] == {"batch.kubernetes.io/job-name": job["metadata"]["name"]}
    assert pod["volumes"][0]["configMap"]["name"] == config["metadata"]["name"]
    assert {part["metadata"]["namespace"] for part in (config, service, job)} == {"ml"}
    (task,) = documents(large("skypilot", recipe))
    assert task["num_nodes"] == 2 and task["resources"]["accelerators"] == "A100:4"
    (request,) = documents(large("sagemaker", recipe))
    assert request["ResourceConfig"]["InstanceCount"] == 2
    assert request["AlgorithmSpecification"]["ContainerArguments"] == ["sagemaker", "4"]
    (spec,) = documents(large("vertex", recipe))
    assert [pool["replicaCount"] for pool in spec["workerPoolSpecs"]] == [1, 1]
    assert {pool["machineSpec"]["acceleratorCount"] for pool in spec["workerPoolSpecs"]} == {4}


def test_every_target_that_writes_a_file_is_tested_with_all_its_options():
    written = set(TARGETS) - {"torchrun", "ray"}
    assert set(WANTED) == set(MORE) == written
    for on in written:
        given = {*WANTED[on], *MORE[on]}
        left = {*TARGETS[on].needs, *TARGETS[on].takes} - given
        assert left <= {"instance", "accelerator"}, (on, left)


def test_names_fit_every_service(recipe):
    """A DNS label; with a pod's number behind it, it must stay below 64 characters."""
    for name in ("9", "a" * 64, "A..b__C--", "x" * 44 + "-.-" + "y" * 10):
        launch = small("kubernetes", recipe, f"name='{name}'")
        slug = launch.name.removesuffix(".k8s.yaml")
        assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", slug) and len(slug) <= 55
