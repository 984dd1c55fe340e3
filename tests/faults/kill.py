"""Kill a run at a chosen instant, resume it, and compare what it ends in with a run that was left alone."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from luthier.core.files import sha256

RECIPE = """
name: kill
seed: 3
model: {base: builtin:t5}
data:
  sources: {dialogues: {source: builtin:dialogues, rows: 240}}
  columns: {prompt: dialogue, completion: summary}
  prompt: "Summarise.\\n\\n{dialogue}\\n\\nSummary:"
  split: {validation: 20, test: 20}
plan: {preflight: warn}
train:
  epochs: 2
  tokens_per_step: 2048
  micro_tokens: 1024
  learning_rate: 1e-3
  checkpoint_every: 0.01
  variants:
    lora: {method: {name: lora, rank: 4, dropout: 0.1}}
    full: {method: full}
evaluate: {against: [], metrics: [perplexity], select: perplexity}
"""

When = Callable[[Path, float], bool]  # (run folder, seconds since the start) -> kill now?


def write_recipe(folder: Path) -> Path:
    """The recipe that is killed: two variants with dropout, accumulation and a checkpoint after every step."""
    path = folder / "kill.yaml"
    path.write_text(RECIPE)
    return path


def at(seconds: float) -> When:
    """Kill at this many seconds after the start, wherever the run is then."""
    return lambda folder, elapsed: elapsed >= seconds


def in_checkpoint(number: int) -> When:
    """Kill while the run writes a checkpoint: when the temporary folder of its `number`-th step is seen."""
    name = f".{number:08d}.tmp"
    return lambda folder, elapsed: any(folder.glob(f"4-train/*/checkpoints/{name}"))


def luthier(*arguments: str) -> list[str]:
    """The command that runs this interpreter's Luthier."""
    return [sys.executable, "-m", "luthier", *arguments]


def run_and_kill(recipe: Path, out: Path, when: When) -> bool:
    """Start the run and SIGKILL it as soon as `when` says; False if it finished before."""
    process = subprocess.Popen(
        luthier("run", str(recipe), "--out", str(out)),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    start = time.monotonic()
    while process.poll() is None:
        if when(out, time.monotonic() - start):
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return True
        time.sleep(0.0005)
    return False


def finish(recipe: Path, out: Path) -> None:
    """Resume the run, or start it where the kill left nothing to resume, and let it end."""
    begun = (out / "recipe.yaml").exists()
    command = luthier("resume", str(out)) if begun else luthier("run", str(recipe), "--out", str(out))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def outcome(out: Path) -> dict[str, str]:
    """What must be the same to the last bit: weights, optimiser, generators, the order of the data, the losses."""
    found = {}
    for variant in sorted(path for path in (out / "4-train").iterdir() if path.is_dir()):
        last = sorted((variant / "checkpoints").glob("[0-9]*"))[-1]
        for file in [*last.glob("*.safetensors"), *(variant / "model").glob("*.safetensors")]:
            found[f"{variant.name}/{file.parent.name}/{file.name}"] = sha256(file)
        lines = [json.loads(line) for line in (variant / "metrics.jsonl").read_text().splitlines()]
        steps = [[line["step"], line["epoch"], line["loss"], line["tokens"]] for line in lines if "loss" in line]
        found[f"{variant.name}/steps"] = json.dumps(steps)
    for name in ("input_ids.npy", "labels.npy"):
        found[name] = sha256(out / "1-data" / "train" / name)
    return found


def instants(count: int, seconds: float, last_step: int, seed: int) -> list[tuple[str, When]]:
    """`count` instants over a run of this length: every third inside the writing of a random checkpoint."""
    rng = random.Random(seed)
    chosen: list[tuple[str, When]] = []
    for number in range(count):
        if number % 3 == 2:
            step = rng.randint(1, last_step)
            chosen.append((f"writing checkpoint {step}", in_checkpoint(step)))
        else:
            moment = rng.uniform(0.5, seconds)
            chosen.append((f"{moment:.2f} s", at(moment)))
    return chosen
