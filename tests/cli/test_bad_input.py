"""What the user can mend: one sentence, exit code 2, nothing lost."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest
import torch

UNHELD = ["data.split.validation=0%"]
NO_SPACE = "mount -t tmpfs -o size={kilobytes}k none disk && exec {python} -m luthier run recipe.yaml --out disk/run"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nowhere.yaml"], "no recipe at nowhere.yaml: give the path of a YAML file"),
        (["recipe.yaml", "train.lerning_rate=1"], "unknown key 'train.lerning_rate': did you mean 'learning_rate'?"),
        (["recipe.yaml", "train.learning_rate=-1"], "train.learning_rate = -1: input should be greater than 0"),
        (["recipe.yaml", "train.variants.full.epochs=0"], "train.variants.full.epochs = 0: input should be greater"),
        (["recipe.yaml", "train.method=lorra"], "train.method: no method is called 'lorra': did you mean 'lora'?"),
        (["recipe.yaml", "train.variants.full.method={name: lora, rnk: 8}"], "train.variants.full.method.rnk'"),
        (["recipe.yaml", "train.optimizer.weight_decay=-1"], "train.optimizer.weight_decay = -1: input should be"),
        (["recipe.yaml", "train.on=[dta]"], "train.on: no source of data.sources is called 'dta': did you mean"),
        (["recipe.yaml", "train.select=rouge3"], "train.select: no metric is called 'rouge3': did you mean 'rouge"),
        (
            ["recipe.yaml", *UNHELD, "train.select=rougeL"],
            "train.select needs validation rows: raise data.split.vali",
        ),
        (["recipe.yaml", *UNHELD, "train.variants.full.patience=1"], "train.variants.full.patience needs validation"),
        (["recipe.yaml", *UNHELD, "train.validate_every=50%"], "train.validate_every needs validation rows"),
        (
            ["recipe.yaml", "train.patience=1", "train.validate_every=0"],
            "train.patience counts validations and there",
        ),
        (["recipe.yaml", "train.method.rank=8"], "unknown key 'train.method.rank': known: none"),
        (["recipe.yaml", "evaluate.metrics=[]"], "evaluate.metrics is empty: name at least one"),
        (["recipe.yaml", "evaluate.select=bleu"], "write one of exact_match, perplexity"),
        (["recipe.yaml", "data.split.test=0"], "data.split.test = 0 leaves no rows to evaluate on: write a share"),
        (["recipe.yaml", "evaluate.few_shot=3"], "few_shot = 3 does nothing without the baseline few-shot: write"),
        (["recipe.yaml", "evaluate.lead=prompt"], "evaluate.against: [base, lead], or leave evaluate.lead out"),
        (["recipe.yaml", "plan.waive=[exact-leek]"], "plan.waive: no check is called 'exact-leek': did you mean"),
        (["recipe.yaml", "train.variants.base={}"], "this name stands for a baseline"),
        (["recipe.yaml", "epochs"], "'epochs' is not an override: write section.key=value"),
        (["recipe.yaml", "model.base=./nowhere"], "nowhere"),
    ],
)
def test_a_recipe_that_cannot_be_meant(luthier, workplace, arguments, sentence):
    said = luthier("run", *arguments, "--json")
    assert said.code == 2, said.err
    assert said.document["error"]["exit_code"] == 2
    assert sentence in said.document["error"]["message"]
    people = luthier("run", *arguments)
    assert people.code == 2 and people.out == ""
    assert sentence in people.err.replace("\n", " ") and "Traceback" not in people.err


def test_a_runs_own_recipe_may_say_defaults_that_nobody_asked_for(luthier, workplace):
    run = luthier("data", "recipe.yaml", "--json").document
    own = workplace / run["out"] / "recipe.yaml"
    written = own.read_text()
    assert luthier("data", f"{run['out']}/recipe.yaml", "--out", "again").code == 0
    for value, code in ((3, 0), (5, 2)):
        own.write_text(written.replace("evaluate:\n", f"evaluate:\n  few_shot: {value}\n"))
        assert luthier("data", run["run"]).code == code


def test_broken_yaml_and_other_encodings(luthier, workplace):
    (workplace / "recipe.yaml").write_text("name: toy\nmodel: [unclosed\n")
    assert "recipe.yaml line 3 is not valid YAML" in luthier("run", "recipe.yaml").err
    (workplace / "recipe.yaml").write_bytes("name: tøy".encode("latin-1"))
    assert "is not UTF-8 (byte 7)" in luthier("run", "recipe.yaml").err


def test_a_run_folder_of_another_recipe_is_refused(luthier, workplace):
    assert luthier("data", "recipe.yaml", "--out", "mine").code == 0
    before = {path: path.read_bytes() for path in (workplace / "mine").rglob("*") if path.is_file()}
    said = luthier("data", "recipe.yaml", "seed=8", "--out", "mine")
    assert said.code == 2
    assert "mine holds a run of another recipe: choose another folder with --out" in said.err.replace("\n", " ")
    assert {path: path.read_bytes() for path in before} == before


def test_a_model_without_a_tokenizer(luthier, workplace, model_folder):
    shutil.copytree(model_folder, workplace / "bare")
    for path in (workplace / "bare").glob("*token*"):
        path.unlink()
    said = luthier("run", "recipe.yaml", "model.base=bare")
    assert said.code == 2 and "has no tokenizer" in said.err


def test_pickled_weights_are_refused(luthier, workplace, model_folder):
    shutil.copytree(model_folder, workplace / "pickled")
    (workplace / "pickled" / "model.safetensors").unlink()
    torch.save({}, workplace / "pickled" / "pytorch_model.bin")
    said = luthier("run", "recipe.yaml", "model.base=pickled")
    assert said.code == 2 and "pickled has only pickled weights" in said.err


def test_a_missing_data_file(luthier, workplace):
    said = luthier("run", "recipe.yaml", "data.sources=nowhere.jsonl")
    assert said.code == 2 and "nowhere.jsonl" in said.err


@pytest.mark.parametrize(
    "overrides",
    [
        ["train.lerning_rate=1"],
        ["train.method=lorra"],
        ["data.split.test=0"],
        ["data.sources=nowhere.jsonl"],
        ["data.columns.prompt=nope"],
        ["data.prompt='{nope}'"],
        ["model.base=./nowhere"],
    ],
)
@pytest.mark.parametrize("out", [[], ["--out", "new/place"]])
def test_a_typo_leaves_nothing_behind(luthier, workplace, overrides, out):
    there = set(workplace.rglob("*"))
    assert luthier("run", "recipe.yaml", *overrides, *out).code == 2
    left = {path.relative_to(workplace).as_posix() for path in set(workplace.rglob("*")) - there}
    assert left <= {"runs", "runs/index.sqlite"}
    assert luthier("runs", "--json").document == {"runs": []}
    assert luthier("data", "recipe.yaml", *out).code == 0


def test_what_was_there_before_stays(luthier, workplace):
    """A folder of the user's, and a run that was begun: its rows may be mended and it goes on."""
    (workplace / "mine").mkdir()
    (workplace / "mine" / ".keep").write_text("mine")
    missing = ["data.sources=nowhere.jsonl", "--out", "mine"]
    assert luthier("data", "recipe.yaml", *missing).code == 2
    assert [path.name for path in (workplace / "mine").iterdir()] == [".keep"]

    done = luthier("data", "recipe.yaml", "--json").document
    (workplace / "rows.jsonl").rename(workplace / "moved.jsonl")
    assert luthier("resume", done["run"]).code == 2
    assert (workplace / done["out"] / "1-data" / "manifest.json").is_file()
    assert [entry["status"] for entry in luthier("runs", "--json").document["runs"]] == ["failed"]
    (workplace / "moved.jsonl").rename(workplace / "rows.jsonl")
    assert luthier("data", done["run"]).code == 0


def test_rejected_rows_stay_to_be_looked_at(luthier, workplace):
    with (workplace / "rows.jsonl").open("a") as file:
        file.write("no row\n" * 9)
    said = luthier("run", "recipe.yaml", "--out", "mine")
    assert said.code == 2 and "all are in mine/1-data/rejected.jsonl" in said.err.replace("\n", " ")
    assert len((workplace / "mine" / "1-data" / "rejected.jsonl").read_text().splitlines()) == 9
    assert [entry["status"] for entry in luthier("runs", "--json").document["runs"]] == ["failed"]


@pytest.mark.parametrize("kilobytes", [16, 192])
def test_no_disk_space(workplace, kilobytes):
    """On a disk so small that the data stage or a checkpoint fills it."""
    (workplace / "disk").mkdir()
    script = NO_SPACE.format(kilobytes=kilobytes, python=sys.executable)
    ran = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, timeout=120)
    if "unshare:" in ran.stderr or "mount:" in ran.stderr:
        pytest.skip(f"no small disk can be made here: {ran.stderr.strip()}")
    assert ran.returncode == 2, ran.stderr
    assert "no space left on the disk" in ran.stderr.replace("\n", " ")
    assert "luthier resume" in ran.stderr and "Traceback" not in ran.stderr
