"""The next step's batches are made by a thread: the same ones, at the right step, with their errors."""

from __future__ import annotations

import threading
from functools import partial

import pytest
import torch

from luthier.engine.job import draw
from luthier.engine.prefetch import LOOKED_AT, prefetched
from tests.train import toy


class Made:
    """A maker that notes what it was asked for and by which thread."""

    def __init__(self, fails: int = -1) -> None:
        self.asked: list[tuple[int, int]] = []
        self.threads: list[str] = []
        self.fails = fails

    def __call__(self, step: int, micro_tokens: int) -> list:
        self.asked.append((step, micro_tokens))
        self.threads.append(threading.current_thread().name.partition("_")[0])
        if step == self.fails:
            raise RuntimeError(f"step {step}")
        return [step, micro_tokens]


def test_batches_are_those_that_would_be_drawn(tmp_path):
    folder = toy.furnish(tmp_path, "t5")
    job = toy.job_of(folder, toy.section(folder, epochs=2))
    assert len(job.steps) > 2 * LOOKED_AT
    with prefetched(partial(draw, job), len(job.steps), worth=0) as batches:
        for step in range(len(job.steps)):
            for ours, theirs in zip(batches.take(step, 40), draw(job, step, 40), strict=True):
                assert ours.rows == theirs.rows and ours.tokens == theirs.tokens
                for a, b in ((ours.where, theirs.where), (ours.labels, theirs.labels), (ours.owner, theirs.owner)):
                    assert torch.equal(a, b)
                assert all(torch.equal(ours.inputs[name], theirs.inputs[name]) for name in theirs.inputs)


def test_each_step_is_made_once_and_the_later_ones_by_the_thread():
    make = Made()
    with prefetched(make, 12, worth=0) as batches:
        assert [batches.take(step, 8) for step in range(12)] == [[step, 8] for step in range(12)]
    assert make.asked == [(step, 8) for step in range(12)]
    assert make.threads == ["MainThread"] * LOOKED_AT + ["batches"] * (12 - LOOKED_AT)


def test_a_halved_micro_batch_or_another_step_is_made_anew():
    make = Made()
    with prefetched(make, 20, worth=0) as batches:
        for step in range(6):
            batches.take(step, 8)
        assert batches.take(5, 4) == [5, 4]  # the same step again, in halves
        assert batches.take(6, 4) == [6, 4]
        assert batches.take(11, 4) == [11, 4]


def test_an_error_is_raised_at_its_own_step_and_can_be_tried_again():
    make = Made(fails=7)
    with prefetched(make, 20, worth=0) as batches:
        for step in range(7):
            batches.take(step, 8)
        with pytest.raises(RuntimeError, match="step 7"):
            batches.take(7, 8)
        make.fails = -1
        assert batches.take(7, 4) == [7, 4]


def test_no_thread_works_where_making_costs_next_to_nothing():
    make = Made()
    with prefetched(make, 50, worth=float("inf")) as batches:
        for step in range(50):
            batches.take(step, 8)
        assert 0 < batches.waited < 60
    assert set(make.threads) == {"MainThread"}
