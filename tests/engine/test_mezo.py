"""MeZO's estimate is the slope of the loss along its direction, and its step goes along it."""

from __future__ import annotations

import pytest
import torch

from luthier.engine.job import draw
from luthier.engine.step import gradients, set_learning_rate, step_loss
from tests.train import toy


def double(folder, **training):
    """A job whose weights are in float64, so that moving them there and back loses nothing."""
    job = toy.job_of(folder, toy.section(folder, **{"optimizer": "mezo", "tokens_per_step": 80, **training}))
    job.computation.trainable.model.double().train()
    return job


@pytest.mark.parametrize("family", ["llama", "qwen2", "bloom"])
def test_the_slope_is_the_directional_derivative(furnished, family):
    """Its error falls with the square of epsilon: two slopes tell what it is at 0, (4 s(e / 2) - s(e)) / 3."""
    folder, slopes = furnished(family), []
    for epsilon in (1e-3, 5e-4):
        job = double(folder, optimizer={"name": "mezo", "epsilon": epsilon})
        batches = draw(job, 0, 40)
        assert len(batches) > 1, "both evaluations go over all micro-batches"
        pending = job.rule.update(job.computation, job.optimizer, batches, 1e9)
        slopes.append(job.optimizer.slope)
        assert pending.result.grad_norm == abs(slopes[-1])
    found = gradients(job.computation, batches, 1e9)
    along = sum((p.grad * z).sum().item() for p, z in job.optimizer.direction())
    assert (4 * slopes[1] - slopes[0]) / 3 == pytest.approx(along, rel=1e-3)
    assert pending.result.loss == pytest.approx(found.loss, rel=1e-2)


def test_the_step_goes_along_the_direction_by_the_slope_and_the_next_direction_is_another(furnished):
    folder = furnished()
    job = double(folder, rates={"mlp": 3}, clip=1e9)
    before = toy.weights(job)
    directions = {id(p): z for p, z in job.optimizer.direction()}
    pending = job.rule.update(job.computation, job.optimizer, draw(job, 0, 40), 1e9)
    set_learning_rate(job.optimizer, 1e-3)
    pending.apply()
    for name, parameter in job.computation.trainable.parameters.items():
        rate = 3e-3 if "mlp" in name else 1e-3
        expected = before[name] - rate * job.optimizer.slope * directions[id(parameter)]
        torch.testing.assert_close(parameter.detach(), expected, rtol=1e-9, atol=1e-9)
    again = {id(p): z for p, z in job.optimizer.direction()}
    assert not any(torch.equal(z, directions[key]) for key, z in again.items())


def test_the_slope_is_clipped(furnished):
    folder = furnished()
    job = double(folder)
    for clip in (1e9, 0.01):
        result = job.rule.update(job.computation, job.optimizer, draw(job, 0, 40), clip).result
    assert abs(job.optimizer.slope) == 0.01 < result.grad_norm


def test_measuring_leaves_the_weights_and_no_gradient(furnished):
    folder = furnished(dropout=0.1)
    job = double(folder)
    before = toy.weights(job)
    job.rule.update(job.computation, job.optimizer, draw(job, 0, 40), 1.0)
    toy.assert_same(before, toy.weights(job), tolerance=1e-12)
    assert all(p.grad is None for p in job.computation.trainable.parameters.values())


def test_both_sides_see_the_same_dropout(furnished):
    """Else the difference of two losses would be mostly that of two masks: with no shift there is none."""
    folder = furnished("gpt2", dropout=0.3)
    job = double(folder, optimizer={"name": "mezo", "epsilon": 1e-300})
    batches = draw(job, 0, 40)
    torch.manual_seed(0)
    first, second = (step_loss(job.computation, batches, backward=False) for _ in range(2))
    assert first != second
    assert job.rule.update(job.computation, job.optimizer, batches, 1.0).result.grad_norm == 0


def test_out_of_memory_puts_the_weights_back(furnished):
    folder = furnished()
    job = double(folder)
    before = toy.weights(job)

    def refuse(module, args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    handle = job.computation.trainable.model.register_forward_pre_hook(refuse)
    with pytest.raises(torch.OutOfMemoryError):
        job.rule.update(job.computation, job.optimizer, draw(job, 0, 40), 1.0)
    handle.remove()
    toy.assert_same(before, toy.weights(job), tolerance=1e-12)
