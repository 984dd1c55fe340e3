"""A peer's side, as a process of its own: `python -m benchmarks.train.peer SPEC.json`.

Writes a line of JSON per step to the journal that the specification names.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.train.cases import Cell, Model, Peer
from benchmarks.train.examples import Steps, read, tokens


@dataclass(frozen=True)
class Spec:
    """What a peer is told: `model` and `adapter` are folders, the latter "" for full fine-tuning."""

    cell: Cell
    peer: Peer
    model: str
    adapter: str
    examples: str
    journal: str

    def steps(self) -> Steps:
        """The examples of each step, in this peer's order."""
        return read(Path(self.examples)).steps(self.peer)

    @property
    def dtype(self) -> torch.dtype:
        """What the weights are loaded in."""
        return torch.bfloat16 if self.peer.weights == "bf16" else torch.float32


def spec_of(text: str) -> Spec:
    """The specification that JSON says."""
    body: dict[str, Any] = json.loads(text)
    cell, peer = body.pop("cell"), body.pop("peer")
    cell["model"], cell["target"] = Model(**cell["model"]), None
    return Spec(cell=Cell(**cell), peer=Peer(**peer), **body)


class Journal:
    """Writes a line when a step ends: its seconds since the last one ended, its tokens, its loss."""

    def __init__(self, spec: Spec) -> None:
        self._spec, self._last, self._done = spec, 0.0, 0
        self._tokens = [tokens(step, spec.cell.model.encoder_decoder) for step in spec.steps()]

    def start(self) -> None:
        """The first step begins; the peak of memory is counted from here, as Luthier counts its own."""
        Path("/proc/self/clear_refs").write_text("5")
        self._last = time.perf_counter()

    def step(self, loss: float) -> None:
        """A step has ended."""
        now = time.perf_counter()
        self._done += 1
        line = {
            "step": self._done,
            "seconds": now - self._last,
            "tokens": self._tokens[self._done - 1],
            "loss": loss,
        }
        with open(self._spec.journal, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        self._last = time.perf_counter()


def main(path: str) -> None:
    """Run the peer that the model needs."""
    spec = spec_of(Path(path).read_text())
    torch.manual_seed(0)
    if spec.peer.medium:
        torch.set_float32_matmul_precision("medium")
    if spec.cell.model.encoder_decoder:
        from benchmarks.train.peer_loop import train
    else:
        from benchmarks.train.peer_trl import train
    train(spec, Journal(spec))


if __name__ == "__main__":
    main(*sys.argv[1:])
