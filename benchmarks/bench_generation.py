"""Tokens per second beside transformers' `generate`: a Llama of 58 M random weights, greedy, in one process."""

from __future__ import annotations

import sys
from copy import deepcopy
from statistics import median
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from benchmarks.record import write
from luthier.core.events import Stopwatch
from luthier.generation.generate import generate
from luthier.models.packing import adopt

PROMPT, NEW, REPEATS = 128, 128, 5
BATCHES, PRECISIONS = (1, 8), {"fp32": torch.float32, "bf16": torch.bfloat16}


def model(width: int = 512, layers: int = 8, vocabulary: int = 32_000) -> LlamaForCausalLM:
    """Random weights, no token that ends an answer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width * 43 // 16,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=2048,
        bos_token_id=None,
        eos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


def compare(
    llama: LlamaForCausalLM, ours: LlamaForCausalLM, batch: int, prompt: int, new: int, repeats: int
) -> dict[str, Any]:
    """Both in turn, so that what else the machine does hits both; medians over the repeats, the first thrown away."""
    ids = torch.randint(llama.config.vocab_size, (batch, prompt), generator=torch.Generator().manual_seed(1))
    said: dict[str, list[list[int]]] = {}
    seconds: dict[str, list[float]] = {"transformers": [], "luthier": []}
    for _ in range(repeats + 1):
        watch = Stopwatch()
        mask = torch.ones_like(ids)
        out = llama.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=new, pad_token_id=0)
        seconds["transformers"].append(watch.seconds)
        said["transformers"] = out[:, prompt:].tolist()
        watch = Stopwatch()
        said["luthier"] = generate(ours, ids.tolist(), pad=0, stop=(), max_new_tokens=new)
        seconds["luthier"].append(watch.seconds)
    rates = {name: batch * new / median(times[1:]) for name, times in seconds.items()}
    same = sum(a == b for pair in zip(*said.values(), strict=True) for a, b in zip(*pair, strict=True))
    return {
        "tokens_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        "times_faster": round(rates["luthier"] / rates["transformers"], 3),
        "same_tokens": round(same / (batch * new), 4),
        "seconds": {name: [round(time, 3) for time in times] for name, times in seconds.items()},
    }


def main(smoke: bool = False) -> None:
    """Every batch size and precision; `smoke`: a tiny model, to see that it runs, and nothing is written."""
    llama = model(64, 2, 500) if smoke else model()
    prompt, new, repeats = (8, 4, 1) if smoke else (PROMPT, NEW, REPEATS)
    ours = deepcopy(llama)
    adopt(ours)  # as Luthier loads it
    rows = {}
    for precision, kind in PRECISIONS.items():
        llama.to(kind)
        ours.to(kind)
        for batch in BATCHES:
            rows[f"{precision}-batch-{batch}"] = found = compare(llama, ours, batch, prompt, new, repeats)
            print(precision, batch, found["tokens_per_second"], f"{found['times_faster']}x", flush=True)
    if smoke:
        return
    figures = {
        "parameters": sum(parameter.numel() for parameter in llama.parameters()),
        "prompt_tokens": prompt,
        "new_tokens": new,
        "threads": torch.get_num_threads(),
        "results": rows,
    }
    write("generation", "greedy generation beside transformers' generate, the prompt's reading included", figures)


if __name__ == "__main__":
    main(smoke="--smoke" in sys.argv)
