"""recipes/dialogsum-stories.yaml from end to end: a really pretrained model on real dialogues, cut to a few steps."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from luthier.core.files import read_json
from luthier.core.shards import IGNORED, Shard
from tests.end_to_end.recipes import assert_accounted, cut_dialogsum, lines, run

ROWS = {"train": 300, "dev": 24, "test": 20}


@pytest.fixture(scope="module")
def document(data_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("stories")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LUTHIER_DATA", str(data_folder))
        return run(
            "dialogsum-stories.yaml",
            folder / "run",
            *cut_dialogsum(data_folder, folder, ROWS),
            "train.max_steps=10",
            "train.tokens_per_step=2048",
            "train.micro_tokens=2048",
            "train.validate_every=50%",
            "evaluate.max_new_tokens=8",
            "evaluate.resamples=100",
        )


@pytest.fixture(scope="module")
def base_loss(document, data_folder):
    """The untrained model's mean loss over the labelled tokens of the validation rows, one row after another."""
    model = LlamaForCausalLM.from_pretrained(data_folder / "stories260K" / "hf")
    shard = Shard(Path(document["out"]) / "1-data" / "validation")
    total, tokens = 0.0, 0
    for row in range(len(shard)):
        ids, labels = torch.tensor(shard[row].input_ids[None]), torch.tensor(shard[row].labels[None])
        count = int((labels[:, 1:] != IGNORED).sum())
        with torch.no_grad():
            total += model(input_ids=ids, labels=labels).loss.item() * count
        tokens += count
    return total / tokens


@pytest.mark.data
def test_every_row_is_accounted_for(document):
    assert document["status"] == "done"
    assert_accounted(document, ROWS)
    assert document["stages"]["data"]["counts"]["removed"]["too_long"] > sum(ROWS.values()) / 4, "context 512"


@pytest.mark.data
@pytest.mark.parametrize("variant", ["full", "lora"])
def test_the_loss_falls_below_the_bases(document, base_loss, variant):
    """Both start from the loss that plain transformers finds, and lose more than a nat of it."""
    folder = Path(document["out"]) / "4-train" / variant
    validation = [line["validation"]["loss"] for line in lines(folder / "metrics.jsonl") if "validation" in line]
    assert validation[0] == pytest.approx(base_loss, rel=1e-5)
    result = read_json(folder / "result.json")
    assert result["validation"]["loss"] == min(validation) < validation[0] - 1
    measured = document["metrics"]
    assert measured[variant]["perplexity"]["value"] < 0.5 * measured["base"]["perplexity"]["value"]


@pytest.mark.data
def test_the_stop_token_is_trained_although_it_is_the_padding_token(document, data_folder):
    """Masking padding by its id would untrain it; the preflight sees that nobody does."""
    found = {finding["check"]: finding for finding in document["preflight"]}
    tokenizer = read_json(data_folder / "stories260K" / "hf" / "tokenizer_config.json")
    template = read_json(Path(document["out"]) / "1-data" / "template.json")
    assert template["stop"] == tokenizer["pad_token"] == tokenizer["eos_token"], "the trap"
    for check in ("stop-token-absent", "stop-token-masked", "stop-token-other"):
        assert found[check]["status"] == "ok", found[check]
    assert found["stop-token-masked"]["detail"].startswith("the stop token is trained")
