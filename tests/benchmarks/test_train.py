"""The parts of the training benchmark that can be wrong on their own; and, slow, all of it on toys."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks.train.cases import AS_RUN, CELLS, T5, TOYS, Peer, candidates
from benchmarks.train.cell import LUTHIER
from benchmarks.train.examples import IGNORED, Examples, Row, Steps, padding, tokens
from benchmarks.train.peer import Spec, spec_of
from benchmarks.train.race import Racer, cumulative
from benchmarks.train.tables import TABLES, between, update
from benchmarks.train.verdict import largest, losses, ratios

ROOT = Path(__file__).parents[2]

COUNTS = """
import json, sys, time
for step in range(1, 400):
    time.sleep(0.02)
    with open(sys.argv[1], "a") as file:
        file.write(json.dumps({"step": step, "seconds": 0.02, "tokens": 10, "loss": 1.0}) + "\\n")
"""


def examples(*lengths: int) -> Examples:
    rows = [Row([7] * n, [IGNORED] * (n - 1) + [7]) for n in lengths]
    return Examples(rows, [[0, 1, 2, 3], [4, 5, 6, 7]])


def lengths_of(steps: Steps) -> list[list[int]]:
    return [[len(row.input_ids) for row in step] for step in steps]


def racer(folder: Path, name: str, script: str = COUNTS) -> Racer:
    journal = folder / f"{name}.jsonl"
    return Racer(name, [sys.executable, "-c", script, str(journal)], journal, folder / f"{name}.log")


def test_sides_take_turns(tmp_path: Path):
    first, second = racer(tmp_path, "first"), racer(tmp_path, "second")
    try:
        first.turn(2)
        done = len(first.steps())
        second.turn(3)
        assert len(first.steps()) == done  # it stood still while the other ran
        first.turn(2)
    finally:
        first.kill()
        second.kill()
    assert first.turns == [[2, 3], [done + 1, done + 2]]  # not counted: two at first, then the one at work
    assert second.turns == [[2, 3, 4]]
    assert first.rates()[0] == [500.0, 500.0]
    assert first.peak() > 2**20


def test_a_side_that_breaks_says_why(tmp_path: Path):
    broken = racer(tmp_path, "broken", "raise SystemExit('no memory left')")
    with pytest.raises(RuntimeError, match=r"broken stopped too early(.|\n)*no memory left"):
        broken.turn(1)


def test_luthiers_lines_count_from_the_start():
    lines = [
        {"step": 1, "loss": 3.0, "seconds": 2.0, "tokens": 10},
        {"step": 1, "validation": {"loss": 3.0}},
        {"step": 2, "loss": 2.5, "seconds": 2.5, "tokens": 30},
    ]
    assert [(step.seconds, step.tokens) for step in cumulative(lines)] == [(2.0, 10), (0.5, 20)]


def test_every_order_holds_the_same_examples_and_pads_as_it_says():
    given = examples(8, 2, 6, 4, 3, 1, 5, 7)
    assert lengths_of(given.steps()) == lengths_of(given.steps(AS_RUN)) == [[8, 2, 6, 4], [3, 1, 5, 7]]
    assert sorted(lengths_of(given.steps(Peer("", grouped=True)))) == [[4, 3, 2, 1], [8, 7, 6, 5]]
    apart = given.steps(Peer("", apart=2))
    assert lengths_of(apart) == [[8, 6, 4, 2], [7, 5, 3, 1]]
    assert [tokens(step, False) for step in apart] == [20, 16]
    assert padding(AS_RUN, given.steps()) == 1 - 36 / (4 * 8 + 4 * 7)
    assert padding(Peer("", apart=2), apart) == 1 - 36 / (2 * (8 + 4) + 2 * (7 + 3))
    assert padding(Peer("", apart=1), apart) == 0


def test_a_specification_survives_its_file():
    for cell in CELLS:
        spec = Spec(replace(cell, target=None), candidates(cell)[1], "model", "", "examples", "journal")
        assert spec_of(json.dumps(asdict(spec))) == spec


def test_the_encoder_decoder_has_no_padding_free_peer():
    assert not any(peer.padding_free for cell in CELLS if cell.model is T5 for peer in candidates(cell))


def side(speed: float, peak: int, said: list[float]) -> dict:
    return {"tokens_per_second": speed, "by_round": [speed], "peak_bytes": peak, "losses": said, "padding": 0.0}


def test_ratios_are_of_speed_and_of_memory():
    found = {"sides": {LUTHIER: side(300.0, 2, []), "as run": side(100.0, 6, [])}}
    assert ratios(found)["as run"] == {"speed": 3.0, "by_round": [3.0] * 3, "memory": 3.0}


def test_losses_must_agree_over_six_steps():
    fp32, bf16 = CELLS[0], CELLS[1]
    found = {"sides": {LUTHIER: side(1, 1, [2.0] * 6), "as run": side(1, 1, [2.0 + 5e-5] * 6)}}
    assert losses(fp32, found, {})["equal"]
    assert largest([2.0] * 5, [2.0] * 5) == float("inf")
    found["sides"]["as run"]["losses"][5] += 1e-4
    assert not losses(fp32, found, {})["equal"]
    exact = {LUTHIER: [2.0] * 6, "as run": [2.0] * 6}
    found = {"sides": {LUTHIER: side(1, 1, [2.004] * 6), "as run": side(1, 1, [2.003] * 6)}}
    assert losses(bf16, found, exact)["equal"]  # worse than 2e-3, but not much worse than TRL
    found["sides"]["as run"]["losses"] = [2.001] * 6
    assert not losses(bf16, found, exact)["equal"]


def test_the_page_holds_the_tables_of_the_figures(tmp_path: Path):
    page = ROOT / "docs" / "performance.md"
    copy = tmp_path / "page.md"
    copy.write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
    update(copy, ROOT / "benchmarks" / "results")
    assert copy.read_text(encoding="utf-8") == page.read_text(encoding="utf-8")
    for name in (name for tables in TABLES.values() for name in tables):
        assert "new" in between(page.read_text(encoding="utf-8"), name, "new")


@pytest.mark.slow
@pytest.mark.data
def test_all_of_it_runs_on_toys(data_folder: Path, tmp_path: Path):
    peers = Path(os.environ.get("LUTHIER_PEERS", Path(sys.prefix) / "peers"))
    there = (peers / "trl").is_dir()
    only = [] if there else ["--only", "T5"]  # whose peer needs no TRL
    command = [sys.executable, "-m", "benchmarks.bench_train", "--quick", "--out", str(tmp_path), *only]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    figures = json.loads((tmp_path / "train.json").read_text())
    assert [found["cell"] for found in figures["cells"]] == [
        cell.name for cell in TOYS if there or cell.model.encoder_decoder
    ]
    for found in figures["cells"]:
        assert found["losses"]["equal"]
        assert found["losses"]["steps"] == 7
        assert all(0 < side["mfu"] < 1 for side in found["sides"].values())
