"""The recipe arrives as it was written, and the workers are started with the right words: the files are executed.

Beside the shell there are stand-ins for what only a cluster has: `srun` runs its command once, `scontrol` lists two
hosts, and `torchrun` and `python` write down how they were called.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from luthier.launch import worker
from luthier.launch.sagemaker import hyperparameters
from luthier.launch.script import heredoc
from luthier.recipe import yamltext
from luthier.recipe.load import load, parse
from tests.launch.conftest import PROMPT, documents, large, small

RECORDER = """#!{python}
import json, os, sys
recipe = next((word for word in sys.argv if word.endswith(".yaml")), None)
text = open(recipe.replace("/recipe/", "mounted/"), encoding="utf-8").read() if recipe else ""
wanted = ("LUTHIER_RUNS", "LUTHIER_DATA")
said = {{"words": sys.argv[1:], "recipe": text, "env": {{k: os.environ[k] for k in wanted if k in os.environ}}}}
json.dump(said, open("called.json", "w"))
"""
FSDP = "train.placement=fsdp"


@pytest.fixture
def call(tmp_path):
    """Execute a script in a folder of its own and say what it called."""
    tools = tmp_path / "tools"
    tools.mkdir()
    scripts = {
        "torchrun": RECORDER.format(python=sys.executable),
        "python": RECORDER.format(python=sys.executable),
        "srun": '#!/bin/bash\nSLURM_NODEID=1 exec "$@"\n',
        "scontrol": "#!/bin/bash\nprintf 'node-a\\nnode-b\\n'\n",
    }
    for name, text in scripts.items():
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)

    def execute(*command: str, **variables: str) -> dict[str, Any]:
        place = tmp_path / "place"
        place.mkdir(exist_ok=True)
        env = {"PATH": f"{tools}:/usr/bin:/bin", **variables}
        subprocess.run(command, cwd=place, env=env, check=True)
        assert not list(place.glob("recipe-*"))  # what a batch script makes it takes away
        return json.loads((place / "called.json").read_text())

    return execute


def arrived(text: str, path: Path, *overrides: str) -> None:
    """The text is the recipe, override for override."""
    assert parse(yamltext.read(text, "arrived")) == load(path, overrides)
    assert load(path).data.prompt == PROMPT


def distributed(rank: int, first: str, port: int, recipe: str) -> list[str]:
    where = ["--nnodes", "2", "--node-rank", str(rank), "--master-addr", first, "--master-port", str(port)]
    return [*where, "--nproc-per-node", "4", "-m", "luthier", "run", recipe]


def test_slurm(call, recipe, tmp_path):
    variables = {"SLURM_JOB_ID": "123456", "SLURM_JOB_NODELIST": "node-[a-b]"}
    path = tmp_path / "job.sbatch"
    path.write_text(large("slurm", recipe).text)
    said = call("bash", str(path), **variables)
    assert said["words"] == distributed(1, "node-a", 20000 + 123456 % 20000, "recipe-123456.yaml")
    arrived(said["recipe"], recipe, FSDP)
    path.write_text(small("slurm", recipe).text)
    said = call("bash", str(path), **variables)
    assert said["words"] == ["-m", "luthier", "run", "recipe-123456.yaml"]
    arrived(said["recipe"], recipe)


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_a_line_that_would_end_the_recipe_early(shell, tmp_path):
    text = "name: $(id) `id`\nRECIPE\n\\\nRECIPE_\n"
    subprocess.run([shell, "-c", heredoc("'out file'", text)], cwd=tmp_path, check=True)
    assert (tmp_path / "out file").read_text() == text


def test_skypilot(call, recipe):
    (task,) = documents(large("skypilot", recipe))
    variables = {"SKYPILOT_NODE_RANK": "1", "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2"}
    said = call("bash", "-c", task["run"], **variables, **task["envs"])
    assert said["words"] == distributed(1, "10.0.0.1", 29500, "recipe.yaml")
    assert said["env"] == {"LUTHIER_DATA": "/data", "LUTHIER_RUNS": "/runs"}
    assert task["file_mounts"] == {"/data": "s3://bucket/rows"} and task["volumes"] == {"/runs": "runs"}
    arrived(said["recipe"], recipe, FSDP)
    said = call("bash", "-c", task["setup"])
    assert said["words"] == ["-m", "pip", "install", "git+https://host/luthier; rm -rf /"]


def test_kubernetes(call, recipe, tmp_path):
    config, _, job = documents(large("kubernetes", recipe))
    mounted = tmp_path / "place" / "mounted"
    mounted.mkdir(parents=True)
    (mounted / "recipe.yaml").write_text(config["data"]["recipe.yaml"], encoding="utf-8")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    plain = {entry["name"]: entry["value"] for entry in container["env"] if "value" in entry}
    said = call(*container["command"], JOB_COMPLETION_INDEX="1", **plain)
    name = job["metadata"]["name"]
    assert said["words"] == distributed(1, f"{name}-0.{name}", 29500, "/recipe/recipe.yaml")
    assert said["env"] == {"LUTHIER_DATA": "/data", "LUTHIER_RUNS": "/data/runs"}
    arrived(said["recipe"], recipe, FSDP)


def test_azure(call, recipe):
    (job,) = documents(large("azure", recipe))
    command = job["command"].replace("${{outputs.runs}}", "/mnt/out").replace("${{inputs.data}}", "/mnt/in")
    said = call("sh", "-c", command, **job["environment_variables"])
    words = ["--standalone", "--nnodes", "1", "--nproc-per-node", "4", "-m", "luthier", "run", "recipe.yaml"]
    assert said["words"] == words
    assert said["env"] == {"LUTHIER_RUNS": "/mnt/out", "LUTHIER_DATA": "/mnt/in"}
    arrived(said["recipe"], recipe, FSDP)


def test_sagemaker(recipe, tmp_path):
    (request,) = documents(large("sagemaker", recipe))
    hosts = {"hosts": ["algo-2", "algo-1"], "current_host": "algo-2", "network_interface_name": "eth0"}
    (tmp_path / "resourceconfig.json").write_text(json.dumps(hosts))
    (tmp_path / "hyperparameters.json").write_text(json.dumps(request["HyperParameters"]))
    assert request["Environment"] == {
        "LUTHIER_RUNS": "/opt/ml/input/data/runs",
        "LUTHIER_DATA": "/opt/ml/input/data/data",
    }
    assert {channel["ChannelName"] for channel in request["InputDataConfig"]} == {"data", "runs"}
    place, text = worker.sagemaker(tmp_path)
    variables = {"NCCL_SOCKET_IFNAME": "eth0", "GLOO_SOCKET_IFNAME": "eth0"}
    assert place == worker.Place(rank=1, nodes=2, first="algo-1", variables=variables)
    assert worker.command(place, 4)[3:] == distributed(1, "algo-1", 29500, "recipe.yaml")
    arrived(text, recipe, FSDP)


def test_sagemaker_keeps_the_runs_of_one_machine_in_the_bucket(recipe):
    (request,) = documents(small("sagemaker", recipe))
    kept = request["CheckpointConfig"]
    assert kept["LocalPath"] == request["Environment"]["LUTHIER_RUNS"]
    assert kept["S3Uri"] == f"s3://bucket/runs/{request['TrainingJobName']}"


@pytest.mark.parametrize("length", [1, 2497, 2498, 2499, 5000, 30000])
def test_a_long_section_comes_in_pieces(length):
    values = {"name": "x", "data": "ü" * length}
    pieces = hyperparameters(values)
    assert max(map(len, pieces.values())) <= 2500
    assert len(pieces) == 1 + -(-(length + 2) // 2500)
    assert worker.joined(dict(reversed(pieces.items()))) == values


@pytest.mark.parametrize(
    ("pool", "index", "rank"), [("workerpool0", 0, 0), ("workerpool1", 0, 1), ("workerpool1", 1, 2)]
)
def test_vertex_numbers_its_machines(pool, index, rank):
    cluster = {"workerpool0": ["first-0:2222"], "workerpool1": ["more-0:2222", "more-1:2222"]}
    spec = {"cluster": cluster, "environment": "cloud", "task": {"type": pool, "index": index}}
    assert worker.vertex(json.dumps(spec)) == worker.Place(rank, 3, "first-0")


def test_vertex(recipe):
    (spec,) = documents(large("vertex", recipe))
    for pool in spec["workerPoolSpecs"]:
        target, processes, text = pool["containerSpec"]["args"]
        assert (target, processes) == ("vertex", "4")
        arrived(text, recipe, FSDP)
    environment = {entry["name"]: entry["value"] for entry in spec["workerPoolSpecs"][0]["containerSpec"]["env"]}
    assert environment == {
        "LUTHIER_KEEP": "/gcs/bucket/runs",
        "LUTHIER_RUNS": "/mnt/nfs/runs",
        "LUTHIER_DATA": "/gcs/bucket/rows",
    }
    assert spec["workerPoolSpecs"][1]["nfsMounts"] == [
        {"server": "10.0.0.2", "path": "/export", "mountPoint": "runs"}
    ]


def test_one_process_needs_no_torchrun():
    alone = worker.Place(0, 1, "localhost")
    assert worker.command(alone, 1) == [sys.executable, "-m", "luthier", "run", "recipe.yaml"]


def test_runs_on_vertex_are_fetched_from_the_bucket_and_put_back(tmp_path, monkeypatch):
    keep = tmp_path / "bucket" / "runs"
    for folder, name in ((keep, "earlier"), (tmp_path / "runs", "new")):
        folder.mkdir(parents=True)
        (folder / name).write_text(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LUTHIER_KEEP", str(keep))
    for name in ("LUTHIER_RUNS", "CLUSTER_SPEC"):
        monkeypatch.delenv(name, raising=False)
    text = "name: x\nmodle: {base: builtin:t5}\n"
    assert worker.main(["vertex", "1", text]) == 2  # an unknown key, and the exit code says so
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"earlier", "new"}
    assert {path.name for path in keep.iterdir()} == {"earlier", "new"}
    assert (tmp_path / "recipe.yaml").read_text() == text
