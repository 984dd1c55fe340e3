"""From a thousand rows to ten million: stage 1's rows per second, training's start and speed, and the memory of both.

Every size is measured in a process of its own. Up to a million rows stage 1 reads a JSON-lines file made by seed;
training is measured on token shards of short rows written by seed. `--most` is the largest size.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.record import write
from luthier.core.files import write_json
from luthier.core.records import Origin, Text, to_json
from luthier.core.shards import IGNORED, Block, line_of, write_blocks

SIZES = (10**3, 10**4, 10**5, 10**6, 10**7)
MOST_READ = 10**6  # rows of stage 1: reading ten million would take an hour on two cores
SHORTEST, LONGEST = 16, 48  # tokens of a row
STEPS = 6
BASE = "blank:llama"
AT_ONCE = 50_000


def main() -> None:
    """Measure every size and write results/rows.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=float, default=1e7)
    parser.add_argument("--measure", choices=("read", "train"))
    parser.add_argument("--folder", type=Path)
    chosen = parser.parse_args()
    if chosen.measure:
        print(json.dumps({"read": read, "train": train}[chosen.measure](chosen.folder)))
        return
    figures: dict[str, list[dict[str, Any]]] = {"read": [], "train": []}
    for rows in (size for size in SIZES if size <= chosen.most):
        if rows <= MOST_READ:
            figures["read"].append({"rows": rows, **_measured("read", write_rows, rows)})
        figures["train"].append({"rows": rows, **_measured("train", write_tokens, rows)})
        print(rows, {kind: found[-1] for kind, found in figures.items() if found}, flush=True)
    write("rows", "stage 1 and training by the number of short rows, each size in a process of its own", figures)


def _measured(kind: str, make: Any, rows: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as place:
        make(Path(place), rows)
        command = [sys.executable, "-m", "benchmarks.bench_rows", "--measure", kind, "--folder", place]
        begun = time.time()
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        figures = json.loads(done.stdout.splitlines()[-1])
    if "first_step" in figures:
        figures["seconds_to_first_step"] = round(figures.pop("first_step") - begun, 2)
    return figures


def write_rows(folder: Path, rows: int) -> None:
    """A file of prompts and answers of random words."""
    rng = random.Random(rows)
    words = ["".join(rng.choices("abcdefghiklmnoprstuvw", k=rng.randint(2, 8))) for _ in range(4000)]
    with (folder / "rows.jsonl").open("w") as file:
        for _ in range(rows):
            said = rng.choices(words, k=rng.randint(5, 15))
            file.write(json.dumps({"prompt": " ".join(said[2:]), "completion": " ".join(said[:2])}) + "\n")


def read(folder: Path) -> dict[str, Any]:
    """Stage 1 on the file, with everything at its defaults."""
    from luthier.core.artefacts import Artefacts
    from luthier.data import stage
    from luthier.engine.memory import peak_bytes
    from luthier.recipe.schema import Data, Model
    from luthier.recipe.sections import DataSection

    data = Data.model_validate({"sources": str(folder / "rows.jsonl"), "split": {"validation": 1000, "test": 1000}})
    if sum(1 for _ in (folder / "rows.jsonl").open()) < 10_000:
        data = data.model_copy(update={"split": data.split.model_copy(update={"validation": 0.05, "test": 0.05})})
    start, children = time.monotonic(), _Children()
    counts = stage.run(DataSection(seed=1, model=Model(base=BASE), data=data), Artefacts(folder, {}), folder / "out")
    seconds = time.monotonic() - start
    return {
        "seconds": round(seconds, 2),
        "rows_per_second": round(counts.total / seconds),
        "peak_rss_bytes": peak_bytes(),
        "worker_processes": children.most,
        "peak_rss_bytes_of_a_worker": children.peak(),
    }


class _Children:
    """How many processes there were beside this one, and the largest."""

    def __init__(self) -> None:
        import threading

        self.most = 0
        self._stop = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            self.most = max(self.most, len(psutil.Process().children()))

    def peak(self) -> int:
        """Bytes that the largest of them held at most."""
        import resource

        self._stop.set()
        return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024


def write_tokens(folder: Path, rows: int) -> None:
    """Shards of random token ids, as stage 1 writes them."""
    for split, count in (("train", rows), ("validation", 100)):
        write_blocks(folder / "1-data" / split, _blocks(count), ["made"])
    write_json(folder / "1-data" / "card.json", {"weights": {"made": 1.0}})


def _blocks(rows: int) -> Iterator[Block]:
    rng = np.random.default_rng(rows)
    line = line_of(to_json(Text("made by seed", Origin("made", "made", 1))))
    for start in range(0, rows, AT_ONCE):
        count = min(AT_ONCE, rows - start)
        lengths = rng.integers(SHORTEST, LONGEST, count)
        ids = rng.integers(3, 4000, lengths.sum(), dtype=np.int32)
        labels = ids.copy()
        labels[np.cumsum(lengths) - lengths] = IGNORED
        sources = np.zeros(count, dtype=np.int32)
        yield Block(ids, lengths, labels, lengths, line * count, np.full(count, len(line)), sources)


def train(folder: Path) -> dict[str, Any]:
    """A few steps of a tiny model on the shards: one epoch is planned, its first steps are trained."""
    from luthier.core.artefacts import Artefacts
    from luthier.engine.job import build
    from luthier.engine.memory import current_bytes, peak_bytes
    from luthier.recipe.schema import Data, Model, Training
    from luthier.recipe.sections import TrainSection
    from luthier.train.stage import train_from_checkpoint

    settings = Training(epochs=1, max_steps=STEPS, tokens_per_step=1024, validate_every=0)
    section = TrainSection(
        seed=1,
        model=Model(base=BASE),
        data=Data.model_validate({"sources": "unread.jsonl"}),
        training=settings,
        max_new_tokens=1,
    )
    before, start = current_bytes(), time.monotonic()
    job = build(section.seed, section.model, section.data, settings, folder / "1-data")
    built = time.monotonic() - start
    begun = time.time()
    state = train_from_checkpoint(
        section, Artefacts(folder, {"data": folder / "1-data"}), folder / "out", job, _nothing
    )
    lines = [json.loads(line) for line in (folder / "out" / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    spent = steps[-1]["seconds"] - steps[0]["seconds"]
    return {
        "first_step": begun + steps[0]["seconds"],
        "seconds_to_build_the_job": round(built, 2),
        "tokens_per_second": round((state.tokens - steps[0]["tokens"]) / spent),
        "rss_bytes_before": before,
        "peak_rss_bytes": peak_bytes(),
    }


def _nothing(*_: Any) -> dict[str, float]:
    return {}


if __name__ == "__main__":
    main()
