"""Two processes give what one gives: the trajectory, the saved model, and the same again after a stop."""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file

from luthier.core.errors import Interrupted
from luthier.core.files import read_json
from luthier.train import checkpoint
from tests.placement.conftest import TWO
from tests.train import toy

LORA = {"name": "lora", "rank": 4}
LONG, SHORT, STEPS = 20, 6, 30


def losses(out):
    return [line["loss"] for line in toy.steps(out)]


def assert_the_same_run(one, two):
    """Losses to 1e-5, norms, validations and tokens as well; the saved model in the same files."""
    first, second = toy.steps(one), toy.steps(two)
    assert len(first) == len(second)
    for ours, theirs in zip(first, second, strict=True):
        assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-5)
        assert theirs["grad_norm"] == pytest.approx(ours["grad_norm"], rel=1e-4)
        assert theirs["tokens"] == ours["tokens"]
    for ours, theirs in zip(toy.validations(one), toy.validations(two), strict=True):
        assert theirs["validation"] == pytest.approx(ours["validation"], rel=1e-5)
    assert_the_same_model(one, two)


def assert_the_same_model(one, two):
    names = sorted(path.name for path in (one / "model").iterdir())
    assert sorted(path.name for path in (two / "model").iterdir()) == names
    for name in names:
        ours, theirs = one / "model" / name, two / "model" / name
        if name.endswith(".safetensors"):
            toy.assert_same(load_file(ours), load_file(theirs), 2e-3)
        else:
            assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize(
    ("family", "settings", "placement", "steps"),
    [
        ("llama", {"method": "full"}, {}, LONG),
        ("llama", {"method": LORA}, {}, LONG),
        ("t5", {"method": "full"}, {}, LONG),  # its embeddings are tied: the encoder's, the decoder's, the output's
        ("bloom", {"method": LORA}, {"shard": "gradients"}, SHORT),
        ("qwen2", {"method": "full"}, {"shard": "none"}, SHORT),
        ("llama", {"method": {"name": "prompt", "tokens": 3}}, {"shard": "hybrid", "group": 1}, SHORT),
        ("llama", {"method": LORA, "rows_per_step": 1}, {}, SHORT),  # of two processes one reads idly
        ("llama", {"method": LORA, "select": "exact_match"}, {}, SHORT),
    ],
    ids=["full", "lora", "t5", "gradients", "none", "hybrid", "idle", "answers"],
)
def test_two_processes_train_as_one(pair, furnished, run, family, settings, placement, steps):
    folder = furnished(family)
    if "rows_per_step" not in settings:
        settings = {**settings, "tokens_per_step": 90}
    else:
        settings = {**settings, "tokens_per_step": 8192}
    one = run(folder, "one", max_steps=steps, **settings)
    two = run(folder, "two", {**TWO, **placement}, max_steps=steps, **settings)
    assert_the_same_run(one, two)
    chosen = [read_json(out / "result.json")["chosen"]["processes"] for out in (one, two)]
    assert chosen == [1, 2]


@contextmanager
def stopped_after(out, steps):
    """Send this process SIGTERM once the journal tells of so many steps."""

    def watch():
        while not (out / "metrics.jsonl").is_file() or len(toy.steps(out)) < steps:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    with pytest.raises(Interrupted, match=r"stopped at step \d+ of"):
        yield
    thread.join()


def test_a_process_goes_on_with_its_own_random_numbers(pair, furnished, run, tmp_path):
    """With dropout: stopped on two and gone on with on two is left alone on two, and each draws its own."""
    folder = furnished("llama")
    settings = {"method": {**LORA, "dropout": 0.3}, "max_steps": 12, "tokens_per_step": 90}
    whole, out = run(folder, "whole", TWO, **settings), tmp_path / "parts"
    with stopped_after(out, 2):
        run(folder, "parts", TWO, **settings)
    (last, *_) = checkpoint.steps(out / "checkpoints")[-1:]
    drawn = [load_file(out / "checkpoints" / last / name)["cpu"] for name in ("rng.safetensors", "rng-1.safetensors")]
    assert not torch.equal(*drawn)
    run(folder, "parts", TWO, **settings)
    assert losses(out) == losses(whole)


def test_stopped_on_two_goes_on_on_one_and_on_two_again(pair, furnished, run, tmp_path):
    """SIGTERM reaches rank 0 alone, and both stop; what two have written, one reads, and the other way round."""
    folder = furnished("llama")
    settings = {"method": LORA, "max_steps": STEPS, "tokens_per_step": 90}
    whole = run(folder, "whole", **settings)
    out = tmp_path / "parts"
    with stopped_after(out, 3):
        run(folder, "parts", TWO, **settings)
    (first, *_) = checkpoint.steps(out / "checkpoints")[-1:]
    assert (out / "checkpoints" / first / "weights").is_dir(), "each process has written its part"
    with stopped_after(out, int(first) + 3):
        run(folder, "parts", "one", **settings)
    (second, *_) = checkpoint.steps(out / "checkpoints")[-1:]
    assert int(second) >= int(first) + 3 and (out / "checkpoints" / second / checkpoint.WEIGHTS).is_file()
    run(folder, "parts", TWO, **settings)
    assert [line["step"] for line in toy.steps(out)] == list(range(1, STEPS + 1))
    assert losses(out) == pytest.approx(losses(whole), rel=1e-5)
    assert_the_same_model(whole, out)
