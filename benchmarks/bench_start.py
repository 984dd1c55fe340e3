"""From the command to the first training step, with stages 1 to 3 done: a Llama of 58 million weights."""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.record import write

RUNS = 5
ROWS = 5000
RECIPE = """\
name: start
seed: 7
model: {{base: {base}, context: 256}}
data:
  sources: {rows}
  split: {{validation: 100, test: 100}}
train:
  method: {{name: lora, rank: 8}}
  epochs: 3
  tokens_per_step: 2048
  micro_tokens: 2048
  validate_every: 0
"""


def main() -> None:
    """Make the run up to the plan once, then start training again and again, each time from nothing."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_base(folder / "base")
        write_rows(folder / "rows.jsonl")
        recipe = folder / "recipe.yaml"
        recipe.write_text(RECIPE.format(base=folder / "base", rows=folder / "rows.jsonl"))
        run = folder / "run"
        subprocess.run(
            [*LUTHIER, "plan", str(recipe), "--out", str(run), "--json"], check=True, stdout=subprocess.DEVNULL
        )
        seconds = [seconds_to_first_step(recipe, run) for _ in range(RUNS)]
    figures: dict[str, Any] = {
        "median_seconds": round(statistics.median(seconds), 2),
        "all_seconds": [round(one, 2) for one in seconds],
        "goal_seconds": 8,
        "rows": ROWS,
    }
    write(
        "start", "seconds from `luthier train` to its first training step, stages 1 to 3 done, 58 M weights", figures
    )


LUTHIER = (sys.executable, "-m", "luthier")


def seconds_to_first_step(recipe: Path, run: Path) -> float:
    """Seconds until the journal has the line of a training step; the run is stopped then and its stage 4 deleted."""
    import shutil

    shutil.rmtree(run / "4-train", ignore_errors=True)
    journal = run / "4-train" / "lora" / "metrics.jsonl"
    start = time.monotonic()
    process = subprocess.Popen(
        [*LUTHIER, "train", str(recipe), "--out", str(run), "--json"], stdout=subprocess.DEVNULL
    )
    try:
        while not (journal.is_file() and '"loss"' in journal.read_text()):
            if process.poll() is not None:
                raise RuntimeError(f"luthier train ended with {process.returncode} before its first step")
            time.sleep(0.01)
        return time.monotonic() - start
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()


def write_base(folder: Path) -> None:
    """A Llama with random weights and the builtin one's tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from luthier.models.resolve import BUILTIN
    from luthier.models.tokenizers import read_tokenizer

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=32_000,
        hidden_size=512,
        intermediate_size=1408,
        num_hidden_layers=8,
        num_attention_heads=8,
        max_position_embeddings=2048,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    read_tokenizer(BUILTIN / "llama").save_pretrained(folder)


def write_rows(path: Path) -> None:
    """Prompts and answers of random words."""
    rng = random.Random(0)
    words = ["".join(rng.choices("abcdefghiklmnoprstuvw", k=rng.randint(2, 8))) for _ in range(4000)]
    with path.open("w") as file:
        for _ in range(ROWS):
            said = rng.choices(words, k=rng.randint(10, 40))
            file.write(json.dumps({"prompt": " ".join(said[4:]), "completion": " ".join(said[:4])}) + "\n")


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
