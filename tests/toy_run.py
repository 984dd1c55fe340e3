"""A whole run in a second: a Llama of toy width with a tokenizer of bytes, forty rows, and a recipe over them."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

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


def write_model(folder: Path, seed: int = 0, template: str | None = None, layers: int = 1) -> Path:
    """A Llama of toy width with random weights, and a tokenizer of bytes with this chat template."""
    tokenizer = bytes_tokenizer(template)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=256,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_rows(path: Path, count: int = 40) -> Path:
    """Questions whose answers are short."""
    rows = [{"prompt": f"What is {i} plus one?", "completion": str(i + 1)} for i in range(count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
