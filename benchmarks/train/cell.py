"""One cell of the table, measured: Luthier and its peers by turns, on the same examples from the same weights."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import numpy as np

from benchmarks.train import ours
from benchmarks.train.cases import AS_RUN, RANK, ROWS, Cell, Peer, candidates, extras
from benchmarks.train.examples import Steps, operations, padding, read
from benchmarks.train.models import make
from benchmarks.train.peer import Spec
from benchmarks.train.race import Racer, cumulative
from luthier.cli.threads import SPINS

LUTHIER = "Luthier"
SCREENED = 2  # steps by which the fastest way is chosen
REFERENCE = 6  # steps of an fp32 training that bf16 is held against


@dataclass(frozen=True)
class Plan:
    """Where it is measured and how long: `counted` steps of each side in each of the `rounds`."""

    work: Path
    texts: Path  # what tokenizers learn
    rows: Path  # what is trained on
    peers: Path  # the folder that holds TRL
    rounds: int
    counted: int

    @property
    def steps(self) -> int:
        """Steps of a process: of every turn one is not counted, and of the first turn two."""
        return 1 + self.rounds * (1 + self.counted)


class Bench:
    """A cell's folder, with what its sides share made in it."""

    def __init__(self, cell: Cell, plan: Plan, at_a_time: int = ROWS, steps: int | None = None) -> None:
        self.cell, self.plan = cell, plan
        self.folder = plan.work / f"{cell.name.replace(', ', '-').replace(' ', '-')}-{steps or plan.steps}"
        self.base = make(cell.model, plan.work / cell.model.name, plan.texts)
        body = ours.recipe(cell, self.base, plan.rows, steps or plan.steps, at_a_time)
        self.recipe, self.run = ours.write(self.folder, body), self.folder / "run"
        prepared = [
            sys.executable,
            "-m",
            "benchmarks.train.prepare",
            str(self.recipe),
            str(self.run),
            str(self.folder),
        ]
        subprocess.run(prepared, check=True, stdout=sys.stderr)
        self.file = self.folder / "examples.npz"
        self.examples = read(self.file)

    def luthier(self) -> Racer:
        """Luthier's process."""
        journal = ours.journal(self.run, self.cell)
        command = ours.command(self.recipe, self.run)
        return Racer(LUTHIER, command, journal, self.folder / "luthier.log", environment(), cumulative)

    def peer(self, peer: Peer) -> Racer:
        """A peer's process."""
        name = f"{peer.name} {peer.how}".replace(" ", "-").replace(",", "").replace("(", "").replace(")", "")
        journal, path = self.folder / f"{name}.jsonl", self.folder / f"{name}.json"
        journal.unlink(missing_ok=True)
        adapter = self.folder / "adapter"
        spec = Spec(
            cell=replace(self.cell, target=None),
            peer=peer,
            model=str(self.base),
            adapter=str(adapter) if adapter.is_dir() else "",
            examples=str(self.file),
            journal=str(journal),
        )
        path.write_text(json.dumps(asdict(spec)))
        command = [sys.executable, "-m", "benchmarks.train.peer", str(path)]
        env = environment() | {"PYTHONPATH": str(self.plan.peers)}
        return Racer(peer.name, command, journal, self.folder / f"{name}.log", env)

    def roofline(self) -> Racer:
        """The machine's peak, as one more side: its rates are operations per second."""
        journal = self.folder / "roofline.jsonl"
        journal.unlink(missing_ok=True)
        command = [sys.executable, "-m", "benchmarks.train.roofline", self.cell.precision, str(journal)]
        return Racer("peak", command, journal, self.folder / "roofline.log", environment())

    def figures(self, racer: Racer, peak: int, how: str, steps: Steps) -> dict[str, Any]:
        """What is reported of a side."""
        turns, done = racer.rates(), racer.steps()
        rates = [rate for turn in turns for rate in turn]
        counted = [i for turn in racer.turns for i in turn]
        useful = [
            operations(self.cell, steps[i], None if self.cell.full else RANK) / done[i].seconds for i in counted
        ]
        return {
            "how": how,
            "tokens_per_second": median(rates),
            "quartiles": quantiles(rates, n=4)[::2] if len(rates) > 1 else rates * 2,
            "by_round": [median(turn) for turn in turns],
            "useful_per_second": median(useful),
            "step_seconds": [round(step.seconds, 4) for step in done],
            "losses": [step.loss for step in done],
            "peak_bytes": peak,
            "first_step_after_seconds": round(racer.first_step, 2),
        }


def environment() -> dict[str, str]:
    """Of every process: threads wait as Luthier has them on an idle machine, nobody asks the network."""
    waiting = {"OMP_WAIT_POLICY": "PASSIVE", "GOMP_SPINCOUNT": str(SPINS)}
    return {**waiting, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


def measure(bench: Bench, tune: bool = True) -> dict[str, Any]:
    """Every side of a cell, in rounds; `tune`: the tuned peer and the extra rows too."""
    plan, cell = bench.plan, bench.cell
    luthier, as_run, peak = bench.luthier(), bench.peer(AS_RUN), bench.roofline()
    racers, peers = [peak, luthier, as_run], {as_run: AS_RUN}
    try:
        for racer in racers:
            racer.turn(plan.counted)
        screened: list[dict[str, Any]] = []
        if tune:
            best, way, screened = screen(bench, candidates(cell), racers)
            peers[best] = way
            more = {bench.peer(extra): extra for extra in extras(cell, way)}
            for racer, extra in more.items():
                racers.append(racer)
                for _ in range(min(extra.rounds or plan.rounds, plan.rounds)):
                    racer.turn(plan.counted)
        sides = [peak, luthier, *peers]
        for number in range(1, plan.rounds):
            for racer in sides if number % 2 else sides[::-1]:
                racer.turn(plan.counted)
        luthier.finish()
        found = {LUTHIER: bench.figures(luthier, peak_of(bench), "", bench.examples.steps())}
        for racer, peer in (peers | (more if tune else {})).items():
            batches = bench.examples.steps(peer)
            found[racer.name] = bench.figures(racer, racer.peak(), peer.how, batches) | {
                "padding": padding(peer, batches)
            }
    finally:
        for racer in racers:
            racer.kill()
    held = np.load(bench.file)
    sizes = {"parameters": int(held["total"]), "trainable": int(held["trainable"])}
    operations_per_second = [median(turn) for turn in peak.rates()]
    for side in found.values():
        side["mfu"] = side["useful_per_second"] / median(operations_per_second)
    return {
        "cell": cell.name,
        "precision": cell.precision,
        **sizes,
        "matmul_peak": operations_per_second,
        "sides": found,
        "screened": screened,
    }


def screen(bench: Bench, ways: Sequence[Peer], racers: list[Racer]) -> tuple[Racer, Peer, list[dict[str, Any]]]:
    """The fastest way in a first turn; the others leave."""
    best: tuple[float, Racer, Peer] | None = None
    seen = []
    for way in ways:
        racer = bench.peer(way)
        racers.append(racer)
        racer.turn(SCREENED)
        rate = median(racer.rates()[0])
        seen.append({"how": way.how, "tokens_per_second": rate, "peak_bytes": racer.peak()})
        if best is None or rate > best[0]:
            if best is not None:
                best[1].kill()
            best = rate, racer, way
        else:
            racer.kill()
    assert best is not None
    return best[1], best[2], seen


def peak_of(bench: Bench) -> int:
    """The peak that Luthier has written down of its training."""
    result = bench.run / "4-train" / bench.cell.method / "result.json"
    return json.loads(result.read_text())["peak_memory_bytes"]


def reference(cell: Cell, plan: Plan) -> dict[str, list[float]]:
    """The losses of both sides in fp32, for a cell in bf16."""
    bench = Bench(replace(cell, name=f"{cell.name}-reference", precision="fp32"), plan, steps=REFERENCE)
    luthier, peer = bench.luthier(), bench.peer(AS_RUN)
    for racer in (luthier, peer):
        racer.finish()
    return {LUTHIER: [step.loss for step in luthier.steps()], AS_RUN.name: [step.loss for step in peer.steps()]}
