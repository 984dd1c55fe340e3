"""Exports of a whole run: what is made, skipped, refused and verified, by the command line and from Python."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
from pathlib import Path

import pytest
import torch

import luthier
from luthier.cli.app import invoke
from luthier.core.artefacts import read_manifest, seal
from luthier.core.errors import UserError
from luthier.core.files import read_json, write_json
from luthier.deploy import reload
from luthier.deploy.reference import logits_of, take
from luthier.deploy.trained import load_trained
from luthier.pipeline.stages import stage_called, works
from tests.deploy.test_mismatches import EOS, around

MADE = {"full/merged", "lora/adapter", "lora/merged", "prompt/adapter"}


def document(capsys, *arguments: str) -> tuple[int, dict]:
    capsys.readouterr()
    code = invoke([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def copy(exported, tmp_path) -> Path:
    """The run with its exports, to be damaged."""
    return shutil.copytree(exported["out"], tmp_path / "run")


def test_every_export_that_can_be_made_is_the_trained_model(exported):
    exports = exported["exports"]
    assert {name for name, found in exports.items() if found["status"] == "done"} == MADE
    assert "no adapter beside them" in exports["full/adapter"]["reason"]
    assert "no weights of the model can hold it" in exports["prompt/merged"]["reason"]
    for name in MADE:
        parity = exports[name]["parity"]
        assert parity["equal"] and parity["differences"] == []
        assert parity["largest_logit_difference"] <= 1e-4 and parity["greedy_agreement"] == 1.0
        assert parity["rows"] == 12 and parity["answers"] == {"equal": 8, "of": 8}
        assert parity["template"]["trained"] == parity["template"]["export"]
        assert parity["stop"] == {"<|im_end|>": 259, "</s>": 257}
        assert set(os.listdir(exports[name]["path"])) >= {"README.md", "manifest.json", "parity.json"}
        assert not list(Path(exports[name]["path"]).glob("*.bin"))
    assert set(exported["stages"]["deploy"]["exports"]) == MADE
    assert {f"export/{name}" for name in MADE} <= set(exported["artefacts"])


def test_what_is_exported_is_what_was_trained_and_not_the_base(exported, trained):
    """The trained logits are far from the base's: an export of the base would be refused."""
    for name in MADE:
        variant = name.partition("/")[0]
        (section,) = (
            w.section
            for w in works(stage_called("deploy"), trained.recipe, trained.folder)
            if "/".join(w.part) == name
        )
        loaded = load_trained(section, trained.folder, variant)
        base = load_trained(section, trained.folder, variant)
        for parameter in base.trainable.parameters.values():
            torch.nn.init.zeros_(parameter)
        rows = take(loaded).rows
        with torch.no_grad():
            far = max((logits_of(loaded, row) - logits_of(base, row)).abs().max().item() for row in rows)
        assert far > 0.01, name


@pytest.mark.parametrize("name", sorted(MADE))
def test_the_card_loads_the_export_and_gives_the_trained_logits(exported, trained, name, monkeypatch):
    """Its Python, run as it stands from within the folder, beside Luthier's own reading of the training."""
    folder = Path(exported["exports"][name]["path"])
    card = (folder / "README.md").read_text(encoding="utf-8")
    loading, asking = re.findall(r"```python\n(.*?)```", card, flags=re.S)
    (section,) = (
        w.section for w in works(stage_called("deploy"), trained.recipe, trained.folder) if "/".join(w.part) == name
    )
    reference = take(load_trained(section, trained.folder, folder.parent.name))
    monkeypatch.chdir(folder)
    space: dict = {}
    exec(loading + asking.replace("max_new_tokens=64", "max_new_tokens=4"), space)
    assert space["ids"]["input_ids"].shape[1] < space["answer"].shape[1]
    with torch.no_grad():
        found = torch.cat([reload.logits(space["model"], row) for row in reference.rows])
    assert (found - reference.logits).abs().max() <= 1e-4


def test_the_fresh_process_knows_nothing_of_luthier():
    tree = ast.parse(Path(reload.__file__).read_text(encoding="utf-8"))
    names = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert names and not any(name.startswith("luthier") for name in names)


def test_what_stands_there_is_skipped(exported, capsys):
    code, again = document(capsys, "export", exported["out"])
    assert code == 0
    assert again["stages"]["deploy"]["status"] == "skipped"
    assert again["exports"] == exported["exports"]


def test_verify_finds_everything_as_it_was_sealed(exported, capsys):
    code, found = document(capsys, "verify", exported["out"])
    assert code == 0 and found["status"] == "done" and found["problems"] == []
    assert set(found["exports"]) == MADE and all(parity["equal"] for parity in found["exports"].values())
    assert found["folders"]["train/full"] == {"files": found["folders"]["train/full"]["files"], "problems": []}
    assert set(found["unfinished"]) == {"plan", "evaluate"} - set(found["folders"])


@pytest.mark.parametrize("file", ["4-train/full/model/model.safetensors", "1-data/test/rows.jsonl"])
def test_verify_finds_a_flipped_bit(copy, file, capsys):
    body = bytearray((copy / file).read_bytes())
    body[len(body) // 2] ^= 1
    (copy / file).write_bytes(body)
    code, found = document(capsys, "verify", str(copy))
    assert code == 1 and found["status"] == "refused"
    assert f"{file} differs from its checksum" in found["error"]["message"]
    assert found["exports"] == {}, "what is compared with a damaged run says nothing"


def test_verify_finds_files_that_were_put_there_or_taken_away(copy, capsys):
    (copy / "6-deploy/lora/merged/pytorch_model.bin").write_bytes(b"a pickle")
    (copy / "6-deploy/lora/adapter/adapter_model.safetensors").unlink()
    code, found = document(capsys, "verify", str(copy))
    assert code == 1 and len(found["problems"]) == 2
    assert "pytorch_model.bin was not there when the folder was sealed" in "".join(found["problems"])
    assert "adapter_model.safetensors is missing" in "".join(found["problems"])


def test_verify_finds_an_export_that_was_changed_and_sealed_again(copy, capsys):
    folder = copy / "6-deploy/lora/merged"
    settings = read_json(folder / "generation_config.json")
    write_json(folder / "generation_config.json", {**settings, "eos_token_id": [EOS]})
    manifest = read_manifest(folder)
    seal(folder, manifest.stage, manifest.section, manifest.inputs, manifest.counts, manifest.seconds)
    code, found = document(capsys, "verify", str(copy))
    assert code == 1
    (problem,) = found["problems"]
    assert problem.startswith("lora/merged is not the model that was trained: stop-tokens: generation's eos_token_id")
    assert found["exports"]["lora/adapter"]["equal"] and not found["exports"]["lora/merged"]["equal"]


def test_an_export_that_differs_is_refused_and_not_sealed(place, capsys):
    """This tokenizer ends every text: who loads the export would give it prompts that training never saw."""
    shutil.copytree(place / "plain", "ending")
    around([], [("</s>", EOS)])(Path("ending"))
    code, found = document(
        capsys,
        "run",
        "recipe.yaml",
        "model.base=ending",
        "train.variants={lora: {method: lora}}",
        "deploy.exports=merged",
    )
    assert code == 1 and found["error"]["kind"] == "refused"
    message = found["error"]["message"]
    assert message.startswith(
        "lora/merged is not the model that was trained: prompt-ids: 12 of 12 become other token"
    )
    folder = Path(found["out"]) / "6-deploy/lora/merged"
    assert os.listdir(folder) == ["parity.json"] and not read_json(folder / "parity.json")["equal"]
    assert "deploy" not in found["stages"] and found["metrics"]["lora"]
    assert (Path(found["out"]) / "report.html").is_file(), "what was evaluated is shown all the same"
    assert document(capsys, "verify", found["out"])[1]["unfinished"] == ["deploy/lora/merged"]


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("deploy.exports=[gguf]", "deploy.exports: no export is called 'gguf': known: adapter, merged"),
        ("deploy.exports=[merged, merged]", "merged is listed twice"),
        (
            "deploy.exports={name: merged, precision: int4}",
            "deploy.exports.precision = 'int4': write 'fp32' or 'bf16'",
        ),
        ("deploy.exports={name: adapter, precision: bf16}", "unknown key 'deploy.exports.precision'"),
        ("deploy.export=[merged]", "unknown key 'deploy.export': did you mean 'exports'?"),
    ],
)
def test_exports_that_cannot_be_meant(override, sentence):
    with pytest.raises(UserError) as caught:
        luthier.open_run("recipe.yaml", override)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["train.variants={p: {method: prompt}}", "deploy.exports=merged"], "as merged (p: what the method prompt"),
        (["train.variants={f: {method: full}}", "deploy.exports=adapter"], "no adapter beside them"),
        (["model.add_tokens=['<new>']", "deploy.exports=adapter"], "no adapter"),
        (
            ["model.add_tokens=['<new>']", "train.variants={l: {method: lora}}", "deploy.exports=adapter"],
            "the base alone has no embeddings for the tokens of model.add_tokens",
        ),
        (
            ["model.base=blank:t5", "train.variants={l: {method: lora}}", "deploy.exports=adapter"],
            "blank:t5 with random weights, is saved nowhere",
        ),
    ],
)
def test_an_export_that_no_variant_allows_is_refused_before_anything_runs(overrides, sentence):
    with pytest.raises(UserError) as caught:
        luthier.open_run("recipe.yaml", *overrides)
    assert sentence in str(caught.value) and "leave it out" in str(caught.value)


def test_exports_are_no_part_of_a_runs_identity(exported):
    """Listed or not, it is the same run, and a recipe that lists none keeps those of the folder."""
    plain = luthier.open_run("recipe.yaml")
    assert str(plain.folder) == exported["out"]
    assert [export.name for export in plain.recipe.deploy.exports] == ["adapter", "merged"]
    assert luthier.open_run("recipe.yaml", "deploy.exports=merged").id == exported["run"]
    assert luthier.open_run("recipe.yaml", "deploy.exports=[adapter, merged]").id == exported["run"]


def test_without_exports_the_verb_says_how_to_name_some(tmp_path):
    with pytest.raises(UserError, match=r"the recipe lists no exports: name some \(`luthier export RUN merged`\)"):
        luthier.open_run("recipe.yaml", "seed=9", out=tmp_path / "other").export()
    with pytest.raises(UserError, match="has not been run"):
        luthier.open_run("recipe.yaml", "seed=9", out=tmp_path / "other").export("merged")


def test_a_run_without_test_rows_is_not_exported(tmp_path):
    run = luthier.open_run(
        "recipe.yaml", "data.split.test=0", "train.variants={lora: {method: lora}}", out=tmp_path / "untested"
    )
    with pytest.raises(UserError, match=r"compared on test rows, and there are none: raise data.split.test"):
        run.train().export("merged")


def test_people_see_how_near_the_exports_lie(exported, capsys):
    assert invoke(["export", exported["out"]]) == 0
    said = capsys.readouterr().out
    assert "lora/merged" in said and "100.0%" in said and "left out" in said
