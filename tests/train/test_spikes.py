"""Steps whose loss or gradient norm lies far above the ones before: said with their rows, counted, or left out."""

from __future__ import annotations

import math
import signal
from dataclasses import asdict, replace

import numpy as np
import pytest

from luthier.core.errors import Interrupted
from luthier.core.files import read_json
from luthier.core.records import Origin, PromptCompletion
from luthier.train import stage
from luthier.train.spikes import highest, spikes
from tests.train import toy
from tests.train.test_resume import signalled

UNKNOWN = 2  # the token of a word that is not in the vocabulary
PLACE = 50  # the row that holds one


def test_the_highest_usual_value():
    """Median 3; deviations from it 2 1 0 1 97, their median 1: 3 + 10 * 1.4826."""
    assert highest([1, 2, 3, 4, 100]) == pytest.approx(17.826)
    assert highest([2.0] * 50) == pytest.approx(3.0)  # 2 + 10 * 5 % of 2


def test_what_is_a_spike():
    before = [[2.0, 1.0]] * 20
    assert spikes(before, (3.01, 1.49)) == (True, False)
    assert spikes(before, (2.99, 1.51)) == (False, True)
    assert spikes(before[1:], (1e9, 1e9)) == (False, False), "too few steps are known"
    assert spikes([[100.0, 100.0]] * 26 + [[2.0, 1.0]] * 50, (4.0, 2.0)) == (True, True), "only the last 50 count"


def test_noise_is_none():
    """Of 100,000 steps of normal noise about a level none is beyond 10 standard deviations, told from 50 of them."""
    noise = np.random.default_rng(0).normal(3.0, 0.4, 100_000)
    assert not any(noise[i] > highest(noise[i - 50 : i].tolist()) for i in range(50, 100_000, 7))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixty rows, one of which holds a word that the job's model will be made to trip over."""
    folder = tmp_path_factory.mktemp("spike")
    base = toy.write_base(folder / "base", "llama")
    rows = toy.questions(60)
    rows[PLACE] = PromptCompletion("the zebra ran", "the house", Origin("toy", "toy.jsonl", PLACE))
    toy.write_data(folder / "data", base, rows, toy.questions(6, seed=1))
    return folder


def tripping(job):
    """The job, whose model says wild things about texts with an unknown word."""
    seen = []
    model = job.base.model
    model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append((kwargs["input_ids"] == UNKNOWN).any()), with_kwargs=True
    )
    model.model.norm.register_forward_hook(lambda module, args, hidden: hidden * 60 if seen[-1] else hidden)
    return job


def wanted(folder, **training):
    return toy.section(folder, tokens_per_step=30, learning_rate=1e-3, validate_every=0, epochs=2, **training)


def spiked(job):
    """The steps of the row, where enough others lie before them."""
    return [step for step, (_, rows) in enumerate(job.steps) if PLACE in rows and step >= 20]


def test_it_is_said_with_its_rows_and_counted(folder, tmp_path, caplog):
    section = wanted(folder)
    job, state = toy.train(folder, section, tmp_path, tripping(toy.job_of(folder, section)))
    expected = spiked(job)
    assert state.spikes == expected and expected and not state.skipped
    said = [record for record in caplog.records if record.event == "train.spike"]
    assert [record.values["rows"] for record in said] == [job.steps[step][1].tolist() for step in expected]
    assert "a loss of " in said[0].getMessage() and f"toy.jsonl row {PLACE}" in said[0].getMessage()
    assert all(math.isfinite(line["loss"]) for line in toy.steps(tmp_path))


def test_left_out_it_is_as_if_it_had_not_been_planned(folder, tmp_path):
    section = wanted(folder, spikes="skip")
    job, state = toy.train(folder, section, tmp_path / "with", tripping(toy.job_of(folder, section)))
    planned = tripping(toy.job_of(folder, section))
    kept = [step for step in range(len(planned.steps)) if step not in state.spikes]
    without = replace(planned, steps=[planned.steps[step] for step in kept])
    assert state.spikes == spiked(job)
    _, other = toy.train(folder, section, tmp_path / "without", without)
    assert other.spikes == []
    toy.assert_same(toy.weights(without), toy.weights(job))


def test_a_resumed_run_remembers_the_steps_before(folder, tmp_path):
    section = wanted(folder, spikes="skip")
    job, state = toy.train(folder, section, tmp_path / "whole", tripping(toy.job_of(folder, section)))
    stopped = signalled(tripping(toy.job_of(folder, section)), spiked(job)[0] - 2, signal.SIGTERM)
    with pytest.raises(Interrupted):
        toy.train(folder, section, tmp_path / "cut", stopped)
    again, found = toy.train(folder, section, tmp_path / "cut", tripping(toy.job_of(folder, section)))
    assert {**asdict(found), "seconds": 0} == {**asdict(state), "seconds": 0}
    toy.assert_same(toy.weights(job), toy.weights(again))


def test_the_result_says_how_many(folder, tmp_path, monkeypatch):
    section = wanted(folder)
    job = toy.job_of(folder, section)
    monkeypatch.setattr(stage, "build", lambda *arguments: tripping(job))
    stage.run(section, toy.inputs_of(folder), tmp_path, toy.not_asked)
    assert read_json(tmp_path / "result.json")["spikes"] == spiked(job)
