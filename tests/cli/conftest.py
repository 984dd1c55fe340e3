"""A recipe over a toy model and forty rows, in a folder of its own, and the command line in this process."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from luthier.cli.app import invoke
from tests.chat.small import bytes_tokenizer

RECIPE = """
name: toy
model: {base: model, context: 96}
data:
  sources: rows.jsonl
  split: {validation: 8, test: 8}
plan: {preflight: warn}
train:
  max_steps: 3
  tokens_per_step: 256
  micro_tokens: 256
  variants: {full: {method: full}}
evaluate: {metrics: [exact_match, perplexity], select: perplexity, max_new_tokens: 4, resamples: 100}
"""


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of toy width with a tokenizer of bytes, saved as a folder."""
    folder = tmp_path_factory.mktemp("toy") / "model"
    tokenizer = bytes_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def workplace(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: recipe.yaml, rows.jsonl, and model/ as a link."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LUTHIER_RUNS", raising=False)
    (tmp_path / "model").symlink_to(model_folder)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    rows = [{"prompt": f"What is {i} plus one?", "completion": str(i + 1)} for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@dataclass
class Said:
    """What a command said: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        return json.loads(self.out)


@pytest.fixture
def luthier(workplace: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """The command line, run in this process."""

    def run(*arguments: str) -> Said:
        capsys.readouterr()
        code = invoke(list(arguments))
        said = capsys.readouterr()
        return Said(code, said.out, said.err)

    return run
