"""LOMO is SGD that never holds two gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from luthier.core.errors import UserError
from luthier.engine.job import draw
from luthier.engine.optimizers.lomo import each_gradient
from luthier.engine.step import gradients, set_learning_rate
from tests.train import toy

WHOLE = {"tokens_per_step": 80, "micro_tokens": 160, "learning_rate": 0.1}


@pytest.mark.parametrize("dropout", [0.0, 0.1])
@pytest.mark.parametrize("family", ["llama", "qwen2", "t5"])  # qwen2's and t5's embedding is their output layer
def test_it_makes_the_steps_of_sgd_to_the_bit(furnished, tmp_path, family, dropout):
    """Dropout falls on the same places in both of its passes, and the norm is clipped in both optimisers."""
    folder = furnished(family, dropout=dropout)
    usual = {**WHOLE, "max_steps": 5, "clip": 0.5}
    job, _ = toy.train(folder, toy.section(folder, optimizer="lomo", **usual), tmp_path / "lomo")
    plain = toy.job_of(folder, toy.section(folder, optimizer="sgd", **usual))
    for group in plain.optimizer.param_groups:
        group["fused"] = False  # the fused kernel rounds once less
    toy.train(folder, toy.section(folder, optimizer="sgd", **usual), tmp_path / "sgd", plain)
    toy.assert_same(toy.weights(plain), toy.weights(job))
    assert toy.steps(tmp_path / "sgd") == toy.steps(tmp_path / "lomo")
    assert max(line["grad_norm"] for line in toy.steps(tmp_path / "lomo")) > 0.5, "the norm is clipped somewhere"


def test_gradients_are_given_away_one_by_one():
    layers = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1))
    parameters, seen = list(layers.parameters()), []

    def look(parameter, gradient):
        seen.append(parameter)
        assert all(p.grad is None for p in parameters)

    with each_gradient(parameters, look):
        layers(torch.ones(2, 3)).sum().backward()
    assert [id(p) for p in seen[-2:]] in ([id(p) for p in parameters[:2]], [id(p) for p in parameters[1::-1]])
    assert len(seen) == len(parameters)
    layers(torch.ones(2, 3)).sum().backward()
    assert all(p.grad is not None for p in parameters) and len(seen) == len(parameters), "the hooks are gone"


def test_no_gradient_is_left_between_measuring_and_moving(furnished):
    folder = furnished()
    job = toy.job_of(folder, toy.section(folder, optimizer="lomo", **WHOLE))
    before = toy.weights(job)
    batches = draw(job, 0, 160)
    expected = gradients(job.computation, batches, 1.0)
    job.optimizer.zero_grad(set_to_none=True)
    pending = job.rule.update(job.computation, job.optimizer, batches, 1.0)
    assert pending.result == expected
    toy.assert_same(before, toy.weights(job))
    set_learning_rate(job.optimizer, 0.1)
    pending.apply()
    assert all(p.grad is None for p in job.computation.trainable.parameters.values())
    assert any(not torch.equal(before[name], value) for name, value in toy.weights(job).items())


def test_the_scale_of_the_loss_is_taken_out_again(furnished):
    """Of fp16; a power of two changes no digit."""
    folder, weights = furnished(), []
    for scale in (1.0, 1024.0):
        job = toy.job_of(folder, toy.section(folder, optimizer="lomo", **WHOLE))
        set_learning_rate(job.optimizer, 0.1)
        computation = replace(job.computation, scale=scale)
        job.rule.update(computation, job.optimizer, draw(job, 0, 160), 0.5).apply()
        weights.append(toy.weights(job))
    toy.assert_same(*weights)


@pytest.mark.parametrize("family", ["llama", "bloom"])
def test_a_step_of_several_micro_batches_is_refused_before_training(furnished, family):
    folder = furnished(family)
    split = toy.section(folder, optimizer="lomo", tokens_per_step=80, micro_tokens=40)
    with pytest.raises(
        UserError, match=r"lomo makes a step of one micro-batch.*write train\.micro_tokens: \d+"
    ) as said:
        toy.job_of(folder, split)
    needed = int(str(said.value).split("micro_tokens: ")[1].split(",")[0])
    job = toy.job_of(folder, toy.section(folder, optimizer="lomo", tokens_per_step=80, micro_tokens=needed))
    assert all(len(draw(job, step, needed)) == 1 for step in range(len(job.steps)))
    with pytest.raises(UserError, match=rf"train\.micro_tokens: {needed}\b"):
        toy.job_of(folder, toy.section(folder, optimizer="lomo", tokens_per_step=80, micro_tokens=needed - 1))
