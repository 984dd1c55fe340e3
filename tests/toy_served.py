"""A finished run to be served: a Llama of toy width, tuned in full, by LoRA and by a soft prompt."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from luthier.cli.app import invoke
from tests.toy_run import RECIPE, write_model, write_rows

VARIANTS = """{
    full: {method: full, learning_rate: 2e-2},
    lora: {method: lora, learning_rate: 2e-2},
    prompt: {method: {name: prompt, tokens: 4}, learning_rate: 0.3}
  }"""


def make_run(folder: Path) -> Path:
    """Run the recipe in this folder; the path of the run."""
    model = talkative(write_model(folder / "model"))
    write_rows(folder / "rows.jsonl")
    recipe = RECIPE.replace("{full: {method: full}}", VARIANTS).replace("base: model", f"base: {model}")
    (folder / "recipe.yaml").write_text(recipe)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out:
        patch.chdir(folder)
        patch.setenv("LUTHIER_RUNS", str(folder / "runs"))
        assert invoke(["run", "recipe.yaml", "--json"]) == 0, out.getvalue()
    (found,) = folder.glob("runs/toy-*")
    return found


def talkative(folder: Path) -> Path:
    """The model with larger weights, so that its answers differ from prompt to prompt."""
    model = LlamaForCausalLM.from_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        for parameter in model.parameters():
            if parameter.ndim == 2:
                torch.nn.init.normal_(parameter, std=0.8)
    model.save_pretrained(folder)
    return folder
