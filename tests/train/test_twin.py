"""The loop that readers are shown in docs/loop.md is the loop that runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from luthier.engine.backend import tuned
from tests.train import toy

PAGE = Path(__file__).parents[2] / "docs" / "loop.md"
LORA = {"name": "lora", "rank": 4, "dropout": 0.1}


@pytest.mark.parametrize(
    ("family", "training"),
    [
        ("llama", {"method": LORA, "schedule": "cosine", "warmup": 0.2, "tokens_per_step": 100}),
        ("t5", {"method": "full", "schedule": "linear", "epochs": 2}),
    ],
)
def test_the_plain_twin_ends_in_the_same_bits(furnished, tmp_path, family, training):
    folder = furnished(family, dropout=0.1)
    wanted = toy.section(folder, **training)
    job, _ = toy.train(folder, wanted, tmp_path)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.S)
    shown: dict = {}
    exec(compile(code, str(PAGE), "exec"), shown)
    with tuned(job.computation.device):
        plain = shown["train_plainly"](wanted.seed, wanted.model, wanted.data, wanted.training, folder / "data")
    toy.assert_same(plain.parameters, toy.weights(job))
    untrained = toy.weights(toy.job_of(folder, wanted))
    assert any(not value.equal(untrained[name]) for name, value in plain.parameters.items())
