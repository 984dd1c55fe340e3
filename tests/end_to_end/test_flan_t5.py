"""recipes/dialogsum-flan-t5.yaml from end to end: FLAN-T5's architecture at toy width under its real tokenizer."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5ForConditionalGeneration

from luthier.core.files import read_json, write_json
from tests.end_to_end.recipes import assert_accounted, cut_dialogsum, lines, run

ROWS = {"train": 24, "dev": 6, "test": 6}
STEPS = 2
ARCHITECTURE = {
    "vocab_size": 32_128,  # 28 more than the tokenizer has
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "feed_forward_proj": "gated-gelu",
    "decoder_start_token_id": 0,
}


@pytest.fixture(scope="module")
def base(data_folder, tmp_path_factory) -> Path:
    """A folder as FLAN-T5's: random weights, an output layer of its own, the real tokenizer.

    transformers 5 ties the two tables of any T5 that it makes itself, and leaves those of a folder that has both.
    """
    tokenizer = data_folder / "tokenizers" / "flan-t5"
    if not tokenizer.is_dir():
        pytest.skip(f"no FLAN-T5 tokenizer at {tokenizer}")
    folder = tmp_path_factory.mktemp("flan-t5")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        T5ForConditionalGeneration(T5Config(**ARCHITECTURE)).save_pretrained(folder)
        tensors = load_file(folder / "model.safetensors")
        tensors["lm_head.weight"] = 0.1 * torch.randn_like(tensors["shared.weight"])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    config = read_json(folder / "config.json")
    del config["scale_decoder_outputs"]
    write_json(folder / "config.json", {**config, "tie_word_embeddings": False})
    for file in tokenizer.iterdir():
        shutil.copyfile(file, folder / file.name)
    return folder


@pytest.fixture(scope="module")
def document(base, data_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("dialogsum")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTHIER_DATA", str(data_folder))
        return run(
            "dialogsum-flan-t5.yaml",
            folder / "run",
            f"model.base={base}",
            *cut_dialogsum(data_folder, folder, ROWS),
            f"train.max_steps={STEPS}",
            "train.tokens_per_step=1024",
            "train.micro_tokens=1024",
            "evaluate.max_new_tokens=8",
            "evaluate.resamples=100",
        )


@pytest.mark.data
def test_the_run_ends_well_with_every_row_accounted_for(document):
    assert document["status"] == "done"
    assert_accounted(document, ROWS)
    assert {finding["status"] for finding in document["preflight"]} <= {"ok", "warning"}


@pytest.mark.data
def test_every_variant_and_baseline_is_scored_on_every_row(document):
    variants, baselines = {"full", "lora", "prompt"}, {"base", "few-shot", "lead"}
    assert set(document["metrics"]) == variants | baselines
    for name, measured in document["metrics"].items():
        answers = lines(Path(document["out"]) / "5-evaluate" / "answers" / f"{name}.jsonl")
        assert measured["rougeL"]["n"] == len(answers) == ROWS["test"], name
        assert all(len(row["references"]) == len(set(row["references"])) == 3 for row in answers), (
            "a test row has three summaries"
        )
    compared = {(found["a"], found["b"]) for found in document["comparisons"]}
    assert compared >= {(variant, baseline) for variant in variants for baseline in baselines}


@pytest.mark.data
@pytest.mark.parametrize("variant", ["full", "lora", "prompt"])
def test_every_variant_is_trained(document, variant):
    folder = Path(document["out"]) / "4-train" / variant
    result = read_json(folder / "result.json")
    assert (result["steps"], result["stopped"], result["skipped_steps"]) == (STEPS, "finished", [])
    validation = [line["validation"]["loss"] for line in lines(folder / "metrics.jsonl") if "validation" in line]
    assert result["best_step"] == STEPS and validation[-1] < validation[0]


@pytest.mark.data
def test_both_tables_are_trained_and_saved(document, base):
    """The output layer stays the model's own: saved beside the embeddings, and neither is the other."""
    before = load_file(base / "model.safetensors")
    after = load_file(Path(document["out"]) / "4-train" / "full" / "model" / "model.safetensors")
    for name in ("shared.weight", "lm_head.weight"):
        change = (after[name] - before[name]).abs().max()
        assert 0 < change < 2e-3, "two steps of AdamW at 1e-4"
