"""Every optimiser in the loop: it learns, it resumes to the bit, and its state survives on the disk."""

from __future__ import annotations

import os
import signal
from itertools import pairwise

import pytest
import torch

from luthier.core.errors import Interrupted, UserError
from luthier.engine.optimizers import OPTIMIZERS
from luthier.train import checkpoint
from tests.train import toy
from tests.train.test_faults import memory_for
from tests.train.test_resume import assert_as_left_alone, everything

HERE = [name for name in OPTIMIZERS if not OPTIMIZERS[name].lacking()]
RATES = {"mezo": 1e-3, "adadelta": 1.0, "lomo": 0.1, "sgd": 0.1}
OPTIONS = {
    "galore": {"rank": 4, "update_every": 2},
    "sgd": {"momentum": 0.9, "nesterov": True},
    "rmsprop": {"momentum": 0.5},
    "mezo": {"epsilon": 1e-2},
}


def section(folder, name, **training):
    """A job with this optimiser at a rate that suits it, six steps long, validated after the third."""
    return toy.section(
        folder,
        **{
            "optimizer": {"name": name, **OPTIONS.get(name, {})},
            "learning_rate": RATES.get(name, 3e-3),
            "max_steps": 6,
            "validate_every": 0.5,
            "micro_tokens": 60 if OPTIMIZERS[name].whole else 30,
            **training,
        },
    )


def stopped_in_its_second_validation(job):
    """Let the job be told to stop when half of its steps are made."""
    modes = [True]

    def look(module, args):
        modes.append(module.training)
        if not modes[-1] and sum(before and not after for before, after in pairwise(modes)) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
            handle.remove()

    handle = job.computation.trainable.model.register_forward_pre_hook(look)
    return job


@pytest.mark.parametrize("name", HERE)
def test_three_steps_and_three_more_are_six(furnished, tmp_path, name):
    folder = furnished("qwen2", dropout=0.1)
    wanted = section(folder, name)
    whole = everything(*toy.train(folder, wanted, tmp_path / "whole"))
    with pytest.raises(Interrupted, match="step 3 of 6"):
        toy.train(folder, wanted, tmp_path / "cut", stopped_in_its_second_validation(toy.job_of(folder, wanted)))
    assert checkpoint.steps(tmp_path / "cut" / "checkpoints") == ["00000003"]
    assert_as_left_alone(everything(*toy.train(folder, wanted, tmp_path / "cut")), whole)
    assert toy.steps(tmp_path / "cut") == toy.steps(tmp_path / "whole")


@pytest.mark.parametrize("name", HERE)
def test_it_learns(furnished, tmp_path, name):
    folder = furnished()
    longer = {"epochs": 20, "max_steps": 60, "clip": 100.0} if name == "mezo" else {"epochs": 3, "max_steps": 40}
    toy.train(folder, section(folder, name, **longer), tmp_path)
    first, *_, last = [line["validation"]["loss"] for line in toy.validations(tmp_path)]
    assert last < first - 0.2


@pytest.mark.parametrize("training", [{"layer_decay": 0.5}, {"rates": {"lora_B": 16}, "method": "lora"}])
def test_the_rates_of_layers_and_names_reach_the_steps(furnished, tmp_path, training):
    """Adam's first step moves every number by its rate, whatever the gradient."""
    folder = furnished()
    wanted = section(folder, "adam", max_steps=1, learning_rate=1e-3, **training)
    before = toy.weights(toy.job_of(folder, wanted))
    job, _ = toy.train(folder, wanted, tmp_path)
    expected = {weight.name: weight.rate * 1e-3 for weight in job.weights}
    assert len(set(expected.values())) > 1
    for name, value in toy.weights(job).items():
        moved = (value - before[name]).abs().max().item()
        assert moved == pytest.approx(expected[name], rel=0.05) or ("lora_A" in name and moved == 0)


def test_a_step_in_one_piece_that_does_not_fit_is_said(furnished, tmp_path):
    folder = furnished()
    wanted = section(folder, "lomo")
    with pytest.raises(UserError, match=r"lomo takes it in one piece: lower train\.tokens_per_step"):
        toy.train(folder, wanted, tmp_path, memory_for(toy.job_of(folder, wanted), 8))


def test_the_probe_and_the_loop_make_mezos_step_without_a_backward_pass(furnished, tmp_path):
    folder = furnished()
    job = toy.job_of(folder, section(folder, "mezo"))

    def refuse(gradient):
        raise AssertionError("there is no backward pass")

    for parameter in job.computation.trainable.parameters.values():
        parameter.register_hook(refuse)
    toy.train(folder, section(folder, "mezo"), tmp_path, job)
    assert torch.is_tensor(job.optimizer.state[next(iter(job.computation.trainable.parameters.values()))]["step"])
