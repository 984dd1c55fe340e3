"""`luthier launch` from the command line: its examples work as they stand, and what is wrong is said."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from luthier.cli.app import invoke
from luthier.launch import TARGETS
from luthier.pipeline.folder import run_id
from luthier.recipe.load import load
from tests.cli.conftest import Said
from tests.launch.conftest import WANTED

SUBMIT = {
    "slurm": "sbatch ",
    "kubernetes": "kubectl apply -f ",
    "skypilot": "sky launch -c ",
    "sagemaker": "aws sagemaker create-training-job --region eu-west-1 --cli-input-json file://",
    "vertex": "gcloud ai custom-jobs create --region europe-west4 --display-name ",
    "azure": "az ml job create --file ",
}


@pytest.fixture
def launch(recipe: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """`luthier launch` in this process, its arguments as one line of shell."""

    def run(arguments: str) -> Said:
        capsys.readouterr()
        code = invoke(["launch", *shlex.split(arguments)])
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run


def wanted(on: str, **instead: str) -> str:
    """The arguments that the target must have."""
    options = WANTED[on] | instead
    return " ".join(["recipe.yaml --on", on, *(f"--{name} {shlex.quote(value)}" for name, value in options.items())])


def test_help_has_an_example_for_each_target_that_works(launch):
    page = launch("--help").out
    examples = dict(re.findall(r"^  (\w+) +(--on .*(?:\n {14}--.*)*)", page, re.M))
    assert set(examples) == set(TARGETS)
    for on, example in examples.items():
        more = "--dry-run" if on in ("torchrun", "ray") else ""
        said = launch(f"recipe.yaml {' '.join(example.split())} {more} --json")
        assert said.code == 0, said.out
        assert said.document["target"] == on
        if on in SUBMIT:
            assert said.document["status"] == "written"
            assert said.document["command"].startswith(SUBMIT[on])
            assert Path(said.document["file"]).parent == Path("jobs") and Path(said.document["file"]).is_file()
            assert said.document["file"] in said.document["command"]


@pytest.mark.parametrize("on", list(SUBMIT))
def test_the_file_is_the_same_on_stdout_in_a_folder_and_in_the_document(launch, on):
    page = launch(wanted(on))
    document = launch(f"{wanted(on)} --json").document
    written = launch(f"{wanted(on)} --out 'my jobs'")
    (path,) = Path("my jobs").iterdir()
    assert page.code == 0 and page.out == document["text"] == path.read_text()
    assert document["command"] in page.err and document["file"] is None
    assert shlex.quote(str(path)) in written.out or f"file://{path}" in written.out
    assert shlex.split(written.out.split("next")[1])[-1].removeprefix("file://") == str(path)


def test_secrets_are_named_and_never_written(launch, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    for on in ("kubernetes", "skypilot"):
        said = launch(f"{wanted(on)} --secret HF_TOKEN")
        assert "HF_TOKEN" in said.out and "verysecret" not in said.out + said.err
    said = launch(f"{wanted('kubernetes')} --secret hf_very-secret")
    assert said.code == 2 and "never its value" in said.err and "hf_very" not in said.err


def test_torchrun_says_its_command(launch, recipe):
    said = launch("recipe.yaml 'name=a b' --on torchrun --gpus 2 --dry-run")
    assert said.code == 2  # the recipe is looked at first
    said = launch("recipe.yaml train.epochs=1 --on torchrun --gpus 2 --dry-run")
    assert said.out == (
        "torchrun --standalone --nnodes 1 --nproc-per-node 2 -m luthier run recipe.yaml train.epochs=1 "
        "train.placement=fsdp\n"
    )
    said = launch("recipe.yaml --on torchrun --nodes 3 --gpus 2 --address node-a:29400 --dry-run")
    where = f"--rdzv-endpoint node-a:29400 --rdzv-id {run_id(load(recipe, ['train.placement=fsdp']))}"
    assert said.out == (
        f"torchrun --nnodes 3 --rdzv-backend c10d {where} --nproc-per-node 2 -m luthier run recipe.yaml "
        "train.placement=fsdp\n"
    )
    assert launch("recipe.yaml --on torchrun --gpus 1 --dry-run").out == "python -m luthier run recipe.yaml\n"


def test_a_recipe_keeps_its_own_placement(launch):
    placement = "'train.placement={name: fsdp, shard: hybrid}'"
    said = launch(f"recipe.yaml {placement} --on slurm --nodes 2 --gpus 4 --json")
    assert "shard: hybrid" in said.document["text"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("--on kubernets", "no target is called 'kubernets': did you mean 'kubernetes'?"),
        (
            "--on kubernetes",
            "--on kubernetes needs --image and --claim (--image: a container image that holds luthier;",
        ),
        ("--on slurm --nodes 0", "Invalid value for '--nodes'"),
        ("--on slurm --gpus -1", "Invalid value for '--gpus'"),
        ("--on slurm --image x", "--image does nothing on slurm: leave it out (slurm takes --partition, --account"),
        ("--on slurm --partition 'a b'", "--partition 'a b' is no name of Slurm's: write letters"),
        ("--on slurm --partition 'a\n#SBATCH --x'", "write one line of text"),
        ("--on slurm --time 4h", "--time 4h: write H:MM:SS or D-HH:MM:SS, such as 4:00:00"),
        ("--on slurm --gpus 2 --processes 3", "--processes 3 is for machines without GPUs: write --gpus 0"),
        ("--on slurm --gpus 0 --accelerator a100", "--accelerator does nothing without a GPU"),
        ("--on slurm --dry-run", "--dry-run does nothing on slurm, for which a file is written"),
        ("--on slurm --out recipe.yaml", "--out recipe.yaml is a file: give the path of a folder"),
        ("--on slurm train.epochz=1", "unknown key 'train.epochz': did you mean 'epochs'?"),
        ("--on slurm train.method=lorra", "no method is called 'lorra': did you mean 'lora'?"),
        ("--on slurm --nodes 2 train.placement=one", "a.b trains on one device (placement: one) and 2 workers were"),
        (
            "--on torchrun --nodes 2 --gpus 1",
            "--nodes 2 needs --address HOST:PORT, the first machine and a free port",
        ),
        (
            "--on torchrun --gpus 2 --address a:1",
            "--address does nothing on one machine: leave it out, or give --nodes",
        ),
        (
            "--on torchrun --gpus 1 --out jobs",
            "--out is the folder of a job file, and torchrun runs here: leave it out",
        ),
        ("--on skypilot", "--on skypilot needs --accelerator, such as A100, or --gpus 0"),
        (
            f"--on azure {wanted('azure')[20:]} --nodes 2",
            "machines on azure share no folder for the run: write --nodes 1",
        ),
    ],
)
def test_what_cannot_be_meant(launch, arguments, sentence):
    said = launch(f"recipe.yaml {arguments} --json")
    assert said.code == 2, said.out
    assert sentence in said.document["error"]["message"]
    assert not Path("jobs").exists()


@pytest.mark.parametrize(
    ("on", "more", "sentence"),
    [
        ("vertex", "--nodes 2", "--nodes 2 on vertex needs --shared: a folder for the run that all machines see"),
        (
            "vertex",
            "--nodes 2 --shared /x --network n",
            "--shared /x: write the NFS server and its folder, server:/folder",
        ),
        ("vertex", "--shared a:/x", "write --network projects/NUMBER/global/networks/NAME"),
        ("vertex", "'data.prompt=$(id) {dialogue}'", "recipe.yaml holds `$(`, which Vertex AI would replace"),
        ("azure", "'data.prompt=${{x}} {dialogue}'", "recipe.yaml holds `${{`, which Azure ML would replace"),
        ("sagemaker", "--shared rows --network subnet-1,sg-1", "--shared rows: write the EFS and a folder on it"),
        ("sagemaker", "--shared fs-1:/x", "write --network subnet-ID,sg-ID"),
        ("skypilot", "--nodes 2", "--nodes 2 on skypilot needs --shared"),
    ],
)
def test_what_one_service_cannot_do(launch, on, more, sentence):
    said = launch(f"{wanted(on)} {more} --json")
    assert said.code == 2 and sentence in said.document["error"]["message"]


def test_buckets_of_vertex_are_googles(launch):
    said = launch(f"{wanted('vertex', output='s3://x/y')} --json")
    assert "--output s3://x/y: write a folder of a bucket, gs://bucket/folder" in said.document["error"]["message"]


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("data.sources=rows.jsonl", "data.sources.data = 'rows.jsonl'"),
        ("data.sources={a: /home/me/rows.jsonl}", "data.sources.a = '/home/me/rows.jsonl'"),
        ("data.sources=info/dataset_info.json:x", "data.sources.data = 'info/dataset_info.json:x'"),
        ("data.sources=${ROWS}/x.jsonl", "data.sources.data = '${ROWS}/x.jsonl'"),
        ("model.base=./llama", "model.base = './llama'"),
        ("model.base=~/llama", "model.base = '~/llama'"),
        ("data.split.test=test.jsonl", "data.split.test = 'test.jsonl'"),
        ("data.split.general=texts.txt", "data.split.general = 'texts.txt'"),
    ],
)
def test_files_of_this_machine_are_refused_where_they_cannot_be_seen(launch, override, key):
    for on in ("kubernetes", "skypilot", "sagemaker", "vertex", "azure"):
        said = launch(f"{wanted(on)} {shlex.quote(override)} --json")
        assert said.code == 2
        assert said.document["error"]["message"].startswith(
            f"{key} is of this machine, and a job on {on} does not see"
        )
    assert launch(f"{wanted('slurm')} {shlex.quote(override)}").code == 0  # a cluster shares its files


@pytest.mark.parametrize(
    ("on", "place", "data"),
    [
        ("kubernetes", "/data/rows.jsonl", ""),
        ("kubernetes", "${LUTHIER_DATA}/rows.jsonl", ""),
        ("vertex", "/gcs/bucket/rows.jsonl", ""),
        ("vertex", "$LUTHIER_DATA/rows.jsonl", "--data gs://bucket/rows"),
        ("sagemaker", "${LUTHIER_DATA}/rows.jsonl", "--data s3://bucket/rows"),
        ("azure", "${LUTHIER_DATA}/rows.jsonl", "--data azureml:rows:1"),
        ("skypilot", "${LUTHIER_DATA}/rows.jsonl", "--data ./rows"),
        ("skypilot", "owner/rows:train", ""),
        ("skypilot", "builtin:arithmetic", ""),
    ],
)
def test_places_that_a_job_sees(launch, on, place, data):
    said = launch(f"{wanted(on)} 'data.sources={place}' {data} --json")
    assert said.code == 0, said.out
    if data:
        said = launch(f"{wanted(on)} 'data.sources={place}' --json")
        assert "the job has no LUTHIER_DATA without --data" in said.document["error"]["message"]


def test_overrides_travel_and_defaults_do_not(launch):
    text = launch("recipe.yaml train.epochs=2 --on slurm --json").document["text"]
    assert "epochs: 2" in text and "learning_rate" not in text
