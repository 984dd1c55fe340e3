"""A recipe full of what shells and YAML trip over, prepared for any target, and job files read back."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from luthier.launch.contract import Launch
from luthier.launch.options import Options
from luthier.launch.prepare import prepare

PROMPT = "Say it's \"$HOME\" `id` \\ 100% ${PATH} 'ü' | > & ; \\n\tRECIPE\nRECIPE\n  {dialogue}\n#SBATCH --x\n---\n"
RECIPE = {
    "name": "My.Odd_Name-1",
    "model": {"base": "builtin:t5"},
    "data": {"sources": "builtin:dialogues", "prompt": PROMPT, "columns": {"prompt": "it's; $x"}},
    "train": {"variants": {"a.b": {"method": {"name": "lora", "rank": 8}}}},
}
WANTED: dict[str, dict[str, Any]] = {
    "slurm": {},
    "kubernetes": {"image": "you/luthier:1", "claim": "rows"},
    "skypilot": {"accelerator": "A100"},
    "sagemaker": {
        "image": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/luthier:1",
        "instance": "ml.g5.12xlarge",
        "role": "arn:aws:iam::123456789012:role/training",
        "output": "s3://bucket/runs",
        "region": "eu-west-1",
    },
    "vertex": {
        "image": "eu-docker.pkg.dev/you/luthier:1",
        "instance": "g2-standard-12",
        "accelerator": "NVIDIA_L4",
        "output": "gs://bucket/runs",
        "region": "europe-west4",
    },
    "azure": {"image": "you.azurecr.io/luthier:1", "compute": "gpus"},
}
MORE: dict[str, dict[str, Any]] = {
    "slurm": {"partition": "gpu,long", "account": "abc_1", "time": "1-02:03:04", "cpus": 16, "memory": 64},
    "kubernetes": {"namespace": "ml", "time": "4:00:00", "cpus": 16, "memory": 64, "secret": ("HF_TOKEN",)},
    "skypilot": {
        "region": "aws/us-east-1",
        "image": "you/luthier:1",
        "install": "git+https://host/luthier; rm -rf /",
        "data": "s3://bucket/rows",
        "secret": ("HF_TOKEN",),
        "cpus": 16,
        "memory": 64,
        "disk": 200,
        "shared": "runs",
    },
    "sagemaker": {
        "data": "s3://bucket/rows",
        "time": "4:00:00",
        "disk": 200,
        "shared": "fs-0123456789abcdef0:/runs",
        "network": "subnet-0123abcd,sg-0123abcd",
    },
    "vertex": {
        "data": "gs://bucket/rows",
        "time": "4:00:00",
        "disk": 200,
        "shared": "10.0.0.2:/export",
        "network": "projects/1/global/networks/default",
    },
    "azure": {"data": "azureml:rows:1", "time": "4:00:00"},
}
ALONE = ("azure",)  # whose machines share nothing


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe as a file in the current folder."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(RECIPE, allow_unicode=True, sort_keys=False), encoding="utf-8")
    return path


def small(on: str, path: Path, *overrides: str, **more: Any) -> Launch:
    """The job with what the target must have, for one machine and one GPU, unless `more` says otherwise."""
    counts = {name: more.pop(name) for name in ("nodes", "gpus", "processes") if name in more}
    return prepare(on, path, overrides, **counts, options=Options(**{**WANTED[on], **more}))


def large(on: str, path: Path, *overrides: str) -> Launch:
    """The job with all that the target takes, for two machines of four GPUs (one, where none are together)."""
    return small(on, path, *overrides, **MORE[on], nodes=1 if on in ALONE else 2, gpus=4)


def documents(launch: Launch) -> list[Any]:
    """What the job file holds."""
    if launch.name.endswith(".json"):
        return [json.loads(launch.text)]
    return list(yaml.safe_load_all(launch.text))


def directives(script: str) -> dict[str, str]:
    """The #SBATCH lines that sbatch reads: those before the first command."""
    head = re.match(r"#!/bin/bash\n((?:#SBATCH .*\n)*)", script)
    assert head is not None
    return dict(line.removeprefix("#SBATCH --").split("=", 1) for line in head[1].splitlines())
