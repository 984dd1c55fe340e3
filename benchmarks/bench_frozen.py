"""Epochs with the states of frozen layers kept on disk beside epochs that compute them: LoRA on top of a Llama.

Usage: python -m benchmarks.bench_frozen [--smoke]; writes benchmarks/results/frozen.json. Both trainings advance an
epoch in turn, on the same rows in the same order, through the job that `luthier train` builds.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from benchmarks.record import write
from luthier.core.events import Stopwatch
from luthier.core.files import write_json
from luthier.core.shards import IGNORED, Example, Shard, write_shard
from luthier.engine.backend import tuned
from luthier.engine.frozen.reuse import reused
from luthier.engine.job import Job, build, draw
from luthier.engine.step import set_learning_rate
from luthier.recipe.schema import Data, Model, Training

ROWS, TOKENS, SPREAD, ANSWER, PER_STEP = 200, 260, 60, 50, 8
EPOCHS = 4
RATE = 1e-4
WAYS = {"computed": "off", "cached": "auto"}


def furnish(folder: Path, width: int, layers: int, vocabulary: int, rows: int) -> None:
    """A base of random weights and rows of random tokens whose last ones are trained."""
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
        eos_token_id=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "base")
    words = {f"w{i}": i for i in range(vocabulary - 2)} | {"<pad>": vocabulary - 2, "</s>": vocabulary - 1}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="w0"))
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "w0"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder / "base")
    rng = np.random.default_rng(0)
    for name, count in (("train", rows), ("validation", 8)):
        examples = [_row(rng, vocabulary) for _ in range(count)]
        write_shard(folder / name, examples, [{}] * count, [0] * count, ["random"])
    write_json(folder / "card.json", {"weights": {"random": 1.0}})


def _row(rng: np.random.Generator, vocabulary: int) -> Example:
    ids = rng.integers(vocabulary - 2, size=TOKENS + int(rng.integers(-SPREAD, SPREAD + 1)))
    return Example(ids, np.where(np.arange(len(ids)) < len(ids) - ANSWER, IGNORED, ids))


def job_of(folder: Path, mode: str, precision: str, top: int) -> Job:
    """The job of one way."""
    settings = {
        "method": {"name": "lora", "layers": top},
        "epochs": EPOCHS,
        "rows_per_step": PER_STEP,
        "learning_rate": RATE,
        "precision": precision,
        "device": "cpu",
        "cache_activations": mode,
    }
    base = Model(base=str(folder / "base"))
    return build(0, base, Data.model_validate({"sources": "rows.jsonl"}), Training.model_validate(settings), folder)


def _warm(job: Job) -> None:
    """One step that is not made: memory is taken and kernels are chosen before anything is timed."""
    job.base.model.train()
    job.rule.update(job.computation, job.optimizer, draw(job, 0, job.settings.micro_tokens), job.settings.clip)
    job.optimizer.zero_grad(set_to_none=True)


def epochs(job: Job) -> Iterator[tuple[float, list[float]]]:
    """Seconds and losses of each epoch in turn."""
    job.base.model.train()
    for epoch in range(EPOCHS):
        watch, losses = Stopwatch(), []
        for step in np.flatnonzero(job.steps.epochs == epoch):
            batches = draw(job, int(step), job.settings.micro_tokens)
            pending = job.rule.update(job.computation, job.optimizer, batches, job.settings.clip)
            set_learning_rate(job.optimizer, RATE)
            pending.apply()
            job.optimizer.zero_grad(set_to_none=True)
            losses.append(pending.result.loss)
        yield watch.seconds, losses


def compare(folder: Path, precision: str, top: int) -> dict[str, Any]:
    """Both ways, an epoch of one and an epoch of the other; the way that goes first changes with every epoch."""
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    losses: dict[str, list[float]] = {way: [] for way in WAYS}
    with ExitStack() as stack:
        running, kept = {}, folder / f"kept-{precision}"
        for way, mode in WAYS.items():
            job = job_of(folder, mode, precision, top)
            around = stack.enter_context(reused(job, kept, Shard(folder / "validation"), begun=False))
            _warm(job)
            running[way] = epochs(replace(job, computation=replace(job.computation, around=around.training)))
        for epoch in range(EPOCHS):
            for way in sorted(WAYS, reverse=bool(epoch % 2)):
                took, found = next(running[way])
                seconds[way].append(took)
                losses[way] += found
        stored = sum(file.stat().st_blocks * 512 for file in kept.glob("*/*"))
    later = {way: median(times[1:]) for way, times in seconds.items()}
    expected, found = (np.array(losses[way]) for way in WAYS)
    return {
        "times_faster_from_the_second_epoch": round(later["computed"] / later["cached"], 3),
        "times_faster_over_all_epochs": round(sum(seconds["computed"]) / sum(seconds["cached"]), 3),
        "first_epoch_costs_more": round(seconds["cached"][0] / seconds["computed"][0] - 1, 4),
        "seconds": {way: [round(time, 3) for time in times] for way, times in seconds.items()},
        "bytes_on_disk": stored,
        "largest_relative_difference_of_losses": float(np.max(np.abs(found / expected - 1))),
    }


def main(smoke: bool = False) -> None:
    """Both vocabularies and precisions; `smoke`: a small model, to see that it runs, and nothing is written."""
    width, layers, vocabularies, rows = (64, 4, (500,), 16) if smoke else (512, 8, (32_000, 8_000), ROWS)
    top = layers // 4
    results = {}
    with tuned(torch.device("cpu")):
        for vocabulary, precision in product(vocabularies, ("fp32", "bf16")):
            with tempfile.TemporaryDirectory() as name:
                furnish(Path(name), width, layers, vocabulary, rows)
                cell = f"vocabulary {vocabulary:,}, {precision}"
                results[cell] = compare(Path(name), precision, top)
                print(cell, results[cell], flush=True)
        threads = torch.get_num_threads()
    if smoke:
        return
    figures = {"layers": layers, "trained_layers": top, "rows": rows, "epochs": EPOCHS, "threads": threads}
    what = (
        "LoRA on the top layers of a Llama: epochs that read the states of the frozen layers beside ones that do not"
    )
    write("frozen", what, {**figures, "results": results})


if __name__ == "__main__":
    main(smoke="--smoke" in sys.argv)
