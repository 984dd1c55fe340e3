"""What must not change a result: how much is in memory at once, padding, the order within a step, when it ends.

Two runs of one class go through the same losses (1e-5 of each, fp32) and end in the same weights. Dropout is off: it is
drawn per batch.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from luthier.core.shards import Shard
from luthier.engine.batches import layout_of
from luthier.engine.job import held_out
from luthier.engine.score import score
from tests.train import toy

LOSSES = 1e-5  # of each loss
WEIGHTS = 2e-4  # of each tensor's largest number: AdamW divides by the gradient, and rounding in small ones shows
STEPS = 6
METHODS = {
    "full": {"method": "full"},
    "lora": {"method": {"name": "lora", "rank": 4}, "learning_rate": 2e-2},
    "prompt": {"method": {"name": "prompt", "tokens": 3}, "learning_rate": 0.1},
}
SMOOTH = {"name": "adamw", "eps": 1e-4}  # a gradient that is zero but for rounding moves nothing

everything = [
    pytest.mark.parametrize("method", METHODS),
    pytest.mark.parametrize("objective", ["sft", "text"]),
    pytest.mark.parametrize("family", ["llama", "t5"]),
]


def each(function):
    """The test for every family, objective and method."""
    for mark in everything:
        function = mark(function)
    return function


@pytest.fixture
def prepared(furnished, family, objective, method):
    """A folder, and sections that differ from the usual one as asked: 120 tokens a step, in parts of at most 40."""
    folder = furnished(family, rows=40, objective=objective)

    def section(**changed):
        training = {**METHODS[method], "objective": objective, "tokens_per_step": 120, "optimizer": SMOOTH}
        return toy.section(folder, **{**training, "epochs": 3, "max_steps": STEPS, "validate_every": 0, **changed})

    return folder, section


def trajectory(folder, wanted, out, job=None):
    """The losses, step by step, and the weights in the end."""
    job, _ = toy.train(folder, wanted, out, job)
    losses = [line["loss"] for line in toy.steps(out)]
    assert len(losses) >= STEPS and len(set(losses)) == len(losses)
    return losses, toy.weights(job)


def assert_equivalent(one, other):
    assert one[0] == pytest.approx(other[0], rel=LOSSES)
    toy.assert_same(one[1], other[1], WEIGHTS)


@each
def test_the_micro_batch_changes_nothing(prepared, tmp_path):
    folder, section = prepared
    small = trajectory(folder, section(micro_tokens=40), tmp_path / "small")
    large = trajectory(folder, section(micro_tokens=10_000), tmp_path / "large")
    assert_equivalent(small, large)


@each
def test_the_order_of_rows_within_a_step_changes_nothing(prepared, tmp_path):
    folder, section = prepared
    one = trajectory(folder, section(), tmp_path / "one")
    job = toy.job_of(folder, section())
    rng = np.random.default_rng(0)
    shuffled = replace(job, steps=[(epoch, rng.permutation(rows)) for epoch, rows in job.steps])
    assert any(a[1].tolist() != b[1].tolist() for a, b in zip(job.steps, shuffled.steps, strict=True))
    assert_equivalent(one, trajectory(folder, section(), tmp_path / "other", shuffled))


@each
def test_a_run_that_is_cut_is_the_beginning_of_the_longer_one(prepared, tmp_path):
    folder, section = prepared
    job, _ = toy.train(folder, section(max_steps=STEPS + 3), tmp_path / "long")
    long = [line["loss"] for line in toy.steps(tmp_path / "long")]
    assert len(long) == STEPS + 3
    assert trajectory(folder, section(), tmp_path / "short")[0] == long[:STEPS], "to the bit: nothing differs"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("objective", ["sft", "text"])
@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_padding_changes_nothing(prepared, tmp_path):
    folder, section = prepared
    packed = toy.job_of(folder, section())
    assert packed.layout.packed
    padded = replace(packed, layout=replace(packed.layout, packed=False))
    ours = trajectory(folder, section(), tmp_path / "packed", packed)
    padded = toy.job_of(folder, section())
    padded = replace(padded, layout=replace(padded.layout, packed=False))
    assert_equivalent(ours, trajectory(folder, section(), tmp_path / "padded", padded))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("objective", ["sft", "text"])
@pytest.mark.parametrize("family", ["llama", "bloom", "t5"])
def test_the_loss_of_a_row_depends_on_no_other_row(prepared, family):
    """Scored alone, in batches of any size and in any order, a row has the same loss."""
    folder, section = prepared
    job = toy.job_of(folder, section())
    rows = held_out(job, Shard(folder / "data" / "train"))[:12]
    layout, trainable = layout_of(job.base, job.computation.trainable.prefix), job.computation.trainable
    alone = np.array([score(trainable, [row], layout).nll[0] for row in rows])
    for budget in (1, 40, 10_000):
        np.testing.assert_allclose(score(trainable, rows, layout, budget).nll, alone, rtol=LOSSES)
    order = np.random.default_rng(1).permutation(len(rows))
    np.testing.assert_allclose(score(trainable, [rows[i] for i in order], layout, 60).nll, alone[order], rtol=LOSSES)
