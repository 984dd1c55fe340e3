"""What SageMaker and Vertex AI start on each machine: `python -m luthier.launch.worker TARGET PROCESSES ...`.

It reads from the place where the service says so which machine this is, puts the recipe into a file and starts the
workers. SageMaker: files below /opt/ml/input/config
(https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-training-algo-running-container.html). Vertex AI:
CLUSTER_SPEC (https://cloud.google.com/vertex-ai/docs/training/distributed-training#cluster-variables).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from luthier.core.files import read_json
from luthier.launch.script import PORT
from luthier.recipe import yamltext

CONFIG = Path("/opt/ml/input/config")
RECIPE = Path("recipe.yaml")


@dataclass(frozen=True)
class Place:
    """Which of how many machines this is, where the first one is, and variables the workers need."""

    rank: int
    nodes: int
    first: str
    variables: Mapping[str, str] = field(default_factory=dict)


def sagemaker(config: Path) -> tuple[Place, str]:
    """This machine's place and the recipe, from SageMaker's resourceconfig.json and hyperparameters.json."""
    resources = read_json(config / "resourceconfig.json")
    hosts = sorted(resources["hosts"])
    interface = resources.get("network_interface_name")
    variables = {f"{library}_SOCKET_IFNAME": interface for library in ("NCCL", "GLOO") if interface}
    place = Place(hosts.index(resources["current_host"]), len(hosts), hosts[0], variables)
    return place, yamltext.write(joined(read_json(config / "hyperparameters.json")))


def joined(pieces: Mapping[str, str]) -> dict[str, Any]:
    """The sections whose JSON lies in `data`, `data.1`, `data.2` ..., put together again."""
    lines: dict[str, str] = {}
    for key in sorted(pieces, key=lambda key: int(key.partition(".")[2] or 0)):
        section = key.partition(".")[0]
        lines[section] = lines.get(section, "") + pieces[key]
    return {section: json.loads(line) for section, line in lines.items()}


def vertex(cluster: str | None) -> Place:
    """This machine's place from CLUSTER_SPEC: the first pool's machine comes first, then those of the second."""
    if cluster is None:
        return Place(0, 1, "localhost")
    spec = json.loads(cluster)
    pools: dict[str, list[str]] = spec["cluster"]
    before = [address for name in sorted(pools) if name < spec["task"]["type"] for address in pools[name]]
    rank = len(before) + int(spec["task"]["index"])
    return Place(rank, sum(map(len, pools.values())), pools["workerpool0"][0].rpartition(":")[0])


def command(place: Place, processes: int) -> list[str]:
    """What starts this machine's workers on the recipe in the current folder."""
    run = ["-m", "luthier", "run", str(RECIPE)]
    if place.nodes * processes == 1:
        return [sys.executable, *run]
    where = ["--nnodes", str(place.nodes), "--node-rank", str(place.rank)]
    where += ["--master-addr", place.first, "--master-port", str(PORT)]
    return [sys.executable, "-m", "torch.distributed.run", *where, "--nproc-per-node", str(processes), *run]


def main(arguments: Sequence[str]) -> int:
    """Start the workers and return their exit code; on Vertex AI runs are fetched from the bucket and put back."""
    target, processes, *rest = arguments
    if target == "sagemaker":
        place, recipe = sagemaker(CONFIG)
    else:
        (recipe,) = rest
        place = vertex(os.environ.get("CLUSTER_SPEC"))
    RECIPE.write_text(recipe, encoding="utf-8")
    start = command(place, int(processes))
    environment = {**os.environ, **place.variables}
    keep, runs = os.environ.get("LUTHIER_KEEP"), Path(os.environ.get("LUTHIER_RUNS", "runs"))
    if keep and place.rank == 0 and Path(keep).is_dir():
        shutil.copytree(keep, runs, dirs_exist_ok=True)
    code = subprocess.run(start, env=environment).returncode
    if keep and place.rank == 0 and runs.is_dir():
        shutil.copytree(runs, keep, dirs_exist_ok=True)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
