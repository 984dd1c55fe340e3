"""What must not change a result: how much is in memory at once, padding, the order within a step, when it ends.

Two runs of one class go through the same losses (1e-5 of each, fp32) and end in the same weights. Dropout is off:
it is drawn per batch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from luthier.core.shards import Shard
from luthier.engine.accelerated.swap import turn_back
from luthier.engine.batches import layout_of
from luthier.engine.job import Job, held_out
from luthier.engine.score import score
from luthier.recipe.sections import TrainSection
from tests.train import toy

LOSSES = 1e-5  # of each loss
WEIGHTS = 1e-4  # of each tensor's largest number: AdamW divides by the gradient, and rounding in small ones shows
STEPS = 20
METHODS = {
    "full": {"method": "full", "learning_rate": 2e-3},
    "lora": {"method": {"name": "lora", "rank": 4}, "learning_rate": 5e-3},
    "prompt": {"method": {"name": "prompt", "tokens": 3}, "learning_rate": 2e-2},
}
SMOOTH = {"name": "adamw", "eps": 1e-4}  # a gradient that is zero but for rounding moves nothing

Trajectory = tuple[list[float], dict[str, Tensor]]  # the losses, step by step, and the weights in the end


@dataclass(frozen=True)
class Case:
    """One family, objective and method; steps of 120 tokens in parts of at most 40."""

    folder: Path
    objective: str
    method: str

    def section(self, **changed: Any) -> TrainSection:
        """The usual settings but for these."""
        usual = {"objective": self.objective, "tokens_per_step": 120, "optimizer": SMOOTH, "validate_every": 0}
        return toy.section(
            self.folder, **{**usual, **METHODS[self.method], "epochs": 9, "max_steps": STEPS, **changed}
        )

    def job(self) -> Job:
        """A fresh job of the usual settings."""
        return toy.job_of(self.folder, self.section())

    def run(self, out: Path, job: Job | None = None, **changed: Any) -> Trajectory:
        """Train to the end."""
        job, _ = toy.train(self.folder, self.section(**changed), out, job)
        losses = [line["loss"] for line in toy.steps(out)]
        assert len(set(losses)) >= STEPS
        return losses, toy.weights(job)


@pytest.fixture
def case(furnished, family, objective, method):
    return Case(furnished(family, rows=40, objective=objective), objective, method)


RUNS: dict[Case, Trajectory] = {}


@pytest.fixture
def usual(case, tmp_path) -> Trajectory:
    """What the usual settings give, computed once for each case."""
    if case not in RUNS:
        RUNS[case] = case.run(tmp_path / "usual")
    return RUNS[case]


def of(families, objectives=("sft", "text"), methods=tuple(METHODS)):
    """The test for each of these families, objectives and methods."""

    def mark(function):
        for name, values in (("family", families), ("objective", objectives), ("method", methods)):
            function = pytest.mark.parametrize(name, values)(function)
        return function

    return mark


def assert_equivalent(one: Trajectory, other: Trajectory) -> None:
    assert one[0] == pytest.approx(other[0], rel=LOSSES)
    toy.assert_same(one[1], other[1], WEIGHTS)


@of(["llama", "t5"])
def test_the_micro_batch_changes_nothing(case, usual, tmp_path):
    assert_equivalent(usual, case.run(tmp_path, micro_tokens=10_000))


@of(["llama", "t5"])
def test_the_order_of_rows_within_a_step_changes_nothing(case, usual, tmp_path):
    job, rng = case.job(), np.random.default_rng(0)
    shuffled = replace(job, steps=[(epoch, rng.permutation(rows)) for epoch, rows in job.steps])
    assert any(a[1].tolist() != b[1].tolist() for a, b in zip(job.steps, shuffled.steps, strict=True))
    assert_equivalent(usual, case.run(tmp_path, shuffled))


@of(["llama", "bloom", "t5"], objectives=["sft"])
def test_padding_changes_nothing(case, usual, tmp_path):
    job = case.job()
    assert job.layout.packed
    assert_equivalent(usual, case.run(tmp_path, replace(job, layout=replace(job.layout, packed=False))))


@of(["llama", "t5"], objectives=["sft"])
def test_accelerated_blocks_change_nothing(case, usual, tmp_path):
    job = case.job()
    fast = [module for module in job.base.model.modules() if type(module).__name__.startswith("Fast")]
    assert fast and job.acceleration.path == "accelerated"
    for module in fast:
        turn_back(module)
    assert_equivalent(usual, case.run(tmp_path, job))


@of(["llama", "bloom", "t5"], objectives=["sft"])
def test_activations_computed_again_change_nothing(case, usual, tmp_path):
    assert_equivalent(usual, case.run(tmp_path, activations="recompute"))


@of(["llama", "t5"], methods=["full", "lora"])
def test_a_run_that_is_cut_is_the_beginning_of_the_longer_one(case, usual, tmp_path):
    longer, _ = case.run(tmp_path, max_steps=STEPS + 3)
    assert len(longer) == STEPS + 3
    assert longer[:STEPS] == usual[0], "to the bit: nothing differs"


@of(["llama", "bloom", "t5"], objectives=["sft"], methods=["full", "prompt"])
def test_the_loss_of_a_row_depends_on_no_other_row(case):
    """Scored alone, in batches of any size and in any order, a row has the same loss."""
    job = case.job()
    trainable = job.computation.trainable
    rows, layout = held_out(job, Shard(case.folder / "data" / "train"))[:12], layout_of(job.base, trainable.prefix)
    alone = np.array([score(trainable, [row], layout).nll[0] for row in rows])
    for budget in (1, 40, 10_000):
        np.testing.assert_allclose(score(trainable, rows, layout, budget).nll, alone, rtol=LOSSES)
    order = np.random.default_rng(1).permutation(len(rows))
    np.testing.assert_allclose(score(trainable, [rows[i] for i in order], layout, 60).nll, alone[order], rtol=LOSSES)
