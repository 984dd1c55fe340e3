"""A process that is lost ends the run with its reason, and the last checkpoint is sound."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from luthier.core.errors import UserError
from luthier.train import checkpoint, together
from tests.train import toy

STEPS = 30


def others() -> list[psutil.Process]:
    """The processes that train with this one, those that other tests share among them."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.Error):  # it has ended since
            found += [child] if together.WORKER in child.cmdline() else []
    return found


def killed_after(out: Path, steps: int) -> threading.Thread:
    """Kill the process that this one starts from now on, once the journal tells of so many steps."""
    known = others()

    def watch():
        while not (out / "metrics.jsonl").is_file() or len(toy.steps(out)) < steps:
            time.sleep(0.005)
        (child,) = (process for process in others() if process not in known)
        os.kill(child.pid, signal.SIGKILL)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_a_process_that_cannot_begin_is_said_at_once(furnished, run, monkeypatch, tmp_path):
    monkeypatch.setattr(together, "WORKER", "luthier.no_such_module")
    with pytest.raises(
        UserError, match=r"process 1 of 2 was lost \(exit code 1: see processes/.* before training began"
    ):
        run(furnished("llama"), "never", {"name": "fsdp", "processes": 2})
    assert "No module named luthier.no_such_module" in (tmp_path / "never" / together.LOGS / "1.log").read_text()


def test_a_killed_process_ends_the_run_and_one_alone_goes_on_from_its_last_checkpoint(furnished, run, tmp_path):
    """Two processes that stage 4 starts itself; a checkpoint after every step."""
    folder, out, known = furnished("llama"), tmp_path / "lost", others()
    settings = {"method": "lora", "max_steps": STEPS, "tokens_per_step": 90, "checkpoint_every": 1e-9}
    thread = killed_after(out, 4)
    with pytest.raises(UserError, match=r"process 1 of 2 was lost \(killed by SIGKILL\); the last checkpoint stands"):
        run(folder, "lost", {"name": "fsdp", "processes": 2}, **settings)
    thread.join()
    assert others() == known, "nothing is left running"
    (last, *_) = checkpoint.steps(out / "checkpoints")[-1:]
    assert 3 <= int(last) < STEPS
    whole = run(folder, "whole", **settings)
    run(folder, "lost", **settings)
    found, expected = ([line["loss"] for line in toy.steps(place)] for place in (out, whole))
    assert found == pytest.approx(expected, rel=1e-5)
    assert not (out / together.LOGS).exists()
