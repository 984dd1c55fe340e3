"""Compiled layers: the same losses, weights and files as without, and only where they can pay."""

from __future__ import annotations

import math
import os
import shutil

import pytest
import torch

from luthier.core.errors import Interrupted
from luthier.engine import compiled
from luthier.engine.compiled import expected, settled
from luthier.engine.step import step_loss
from luthier.train import checkpoint
from tests.train import toy
from tests.train.test_resume import signalled

STEPS = 6
LOSSES, WEIGHTS = 1e-5, 1e-4  # relative, as in tests/invariance


def section(folder, **changed):
    smooth = {"name": "adamw", "eps": 1e-4}  # a gradient that is zero but for rounding moves nothing
    usual = {"epochs": 2, "max_steps": STEPS, "validate_every": 0.5, "tokens_per_step": 80, "optimizer": smooth}
    return toy.section(folder, **{**usual, **changed})


@pytest.fixture
def always(monkeypatch):
    """A training of a few steps counts as long, and a compiled layer as fast."""
    if shutil.which(os.environ.get("CXX", "g++")) is None:
        pytest.skip("compiling needs a C++ compiler, and there is none")
    monkeypatch.setattr(compiled, "PAYS", 0.0)
    monkeypatch.setattr(compiled, "MARGIN", math.inf)


def assert_the_same_trajectory(folder, tmp_path):
    """Compiled and not; and compiled with a stop in the middle, which must change no bit."""
    plain, _ = toy.train(folder, section(folder), tmp_path / "plain")
    job, state = toy.train(folder, section(folder, compile="auto"), tmp_path / "compiled")
    assert state.compiled
    losses, found = ([line["loss"] for line in toy.steps(tmp_path / name)] for name in ("plain", "compiled"))
    assert len(set(losses)) == STEPS and found == pytest.approx(losses, rel=LOSSES)
    validations = [line["validation"]["loss"] for line in toy.validations(tmp_path / "plain")]
    again = [line["validation"]["loss"] for line in toy.validations(tmp_path / "compiled")]
    assert len(validations) > 1 and again == pytest.approx(validations, rel=LOSSES)
    toy.assert_same(toy.weights(plain), toy.weights(job), WEIGHTS)
    assert list(plain.base.model.state_dict()) == list(job.base.model.state_dict())

    wanted = section(folder, compile="auto")
    with pytest.raises(Interrupted):
        toy.train(folder, wanted, tmp_path / "cut", signalled(toy.job_of(folder, wanted), 3, 15))
    assert checkpoint.steps(tmp_path / "cut" / "checkpoints") == ["00000003"]
    resumed, state = toy.train(folder, wanted, tmp_path / "cut")
    assert state.compiled
    toy.assert_same(toy.weights(job), toy.weights(resumed))


def test_compiled_layers_change_nothing(furnished, tmp_path, always):
    assert_the_same_trajectory(furnished("gpt2", dropout=0.1), tmp_path)


@pytest.mark.slow
def test_compiled_layers_change_nothing_in_a_bloom(furnished, tmp_path, always):
    assert_the_same_trajectory(furnished("bloom"), tmp_path)


def test_a_short_training_is_not_compiled(furnished):
    folder = furnished("gpt2", dropout=0.1)
    job = toy.job_of(folder, section(folder, compile="auto"))
    before, drawn = toy.weights(job), torch.get_rng_state()
    found = settled(job, 0, 80)
    assert not found.layers and "do not pay" in found.why
    assert torch.equal(torch.get_rng_state(), drawn)
    toy.assert_same(before, toy.weights(job))
    assert all(parameter.grad is None for parameter in job.base.model.parameters())


def test_a_step_that_runs_out_of_memory_on_its_way_back_leaves_no_gradient(furnished, monkeypatch):
    folder = furnished("gpt2")
    job = toy.job_of(folder, section(folder, compile="auto"))

    def runs_out(*args):
        step_loss(*args)
        raise RuntimeError("can't allocate memory")

    monkeypatch.setattr(compiled, "step_loss", runs_out)
    assert "memory did not suffice" in settled(job, 0, 80).why
    assert all(parameter.grad is None for parameter in job.base.model.parameters())


def test_whatever_the_compiler_says_the_training_goes_on(furnished, monkeypatch):
    folder = furnished("gpt2")
    job = toy.job_of(folder, section(folder, compile="auto"))
    before = [type(layer) for layer in job.base.model.modules()]

    def unable(*args, **options):
        raise AssertionError

    monkeypatch.setattr(compiled, "PAYS", 0.0)
    monkeypatch.setattr(compiled, "_no_compiler", lambda device: None)
    monkeypatch.setattr(torch, "compile", unable)
    assert "cannot compile a gpt2 here (AssertionError)" in settled(job, 0, 80).why
    assert [type(layer) for layer in job.base.model.modules()] == before


@pytest.mark.parametrize(("family", "placement"), [("gpt2", "fsdp"), ("llama", "tensor")])
def test_what_several_will_train_is_not_compiled(furnished, family, placement):
    """The plan builds the job alone, and says what they will do."""
    folder = furnished(family)
    job = toy.job_of(folder, section(folder, compile="auto", placement={"name": placement, "processes": 2}))
    assert "several processes" in expected(job, 3600.0).why


def test_the_plan_says_what_will_be_decided(furnished):
    folder = furnished("gpt2")
    job = toy.job_of(folder, section(folder, compile="auto"))
    assert "about 12 seconds" in expected(job, 12.3).words
    assert expected(job, 3600.0).layers == 2


@pytest.mark.parametrize(
    ("family", "training", "why"),
    [
        ("llama", {}, "accelerated blocks"),
        ("gpt2", {"optimizer": "mezo"}, "no backward pass"),
    ],
)
def test_what_gains_nothing_is_not_compiled(furnished, family, training, why):
    folder = furnished(family)
    job = toy.job_of(folder, section(folder, compile="auto", **training))
    assert why in settled(job, 0, 80).why and why in expected(job, 3600.0).why


def test_without_a_compiler_it_says_how_to_get_one(furnished, monkeypatch):
    folder = furnished("gpt2")
    monkeypatch.setenv("CXX", "no-such-compiler")
    job = toy.job_of(folder, section(folder, compile="auto"))
    assert "no C++ compiler (no-such-compiler): install one, or set CXX" in settled(job, 0, 80).why
