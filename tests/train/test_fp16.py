"""fp16: the loss is scaled so that gradients neither vanish nor overflow, and no row is lost over it.

Where a processor has no fp16 the arithmetic of the scale is shown in fp32, whose results it may not change by a bit.
"""

from __future__ import annotations

import signal
from dataclasses import asdict, replace

import pytest
import torch

from luthier.core.errors import Interrupted, UserError
from luthier.engine import device, scaling
from luthier.engine.step import StepResult
from luthier.train.state import State
from tests.train import toy
from tests.train.test_resume import signalled

LIMIT = 2.0**9  # the largest gradient of a hidden state that the planted arithmetic can hold


def fp16(job):
    """The job, trained as fp16 is."""
    return replace(job, computation=replace(job.computation, precision="fp16"))


@pytest.fixture
def exact(monkeypatch):
    """fp16 in name: every number is computed in fp32."""
    monkeypatch.delitem(device.DTYPES, "fp16")


def overflowing(job, limit=LIMIT):
    """Gradients of the hidden states above the limit are infinite, as in fp16 above 65504."""

    def cut(gradient):
        return gradient.where(gradient.abs() < limit, torch.inf)

    def watch(module, args, hidden):
        if hidden.requires_grad:
            hidden.register_hook(cut)

    job.base.model.model.norm.register_forward_hook(watch)
    return job


def test_when_the_scale_changes():
    finite, infinite, lost = (
        StepResult(2.0, 1.0, 9),
        StepResult(2.0, float("inf"), 9),
        StepResult(float("nan"), 1.0, 9),
    )
    assert [scaling.overflowed(r, 8.0) for r in (finite, infinite, lost)] == [False, True, False]
    assert not scaling.overflowed(infinite, 1.0), "a smaller scale does not mend it"
    assert scaling.grown(8.0, 0) == (8.0, 1) and scaling.grown(8.0, scaling.CALM - 1) == (16.0, 0)
    assert (scaling.first_scale("fp16"), scaling.first_scale("bf16")) == (65536.0, 1.0)


@pytest.mark.parametrize(
    "training",
    [
        {"method": "full", "tokens_per_step": 80},
        {"method": "lora", "tokens_per_step": 80},
        {"method": "full", "optimizer": "lomo", "micro_tokens": 80},
    ],
    ids=["full", "lora", "lomo"],
)
def test_a_step_that_overflows_is_repeated_and_the_weights_are_those_without(exact, furnished, tmp_path, training):
    folder = furnished()
    wanted = toy.section(folder, **training)
    plain, _ = toy.train(folder, wanted, tmp_path / "plain")
    job, state = toy.train(folder, wanted, tmp_path / "scaled", overflowing(fp16(toy.job_of(folder, wanted))))
    toy.assert_same(toy.weights(plain), toy.weights(job))
    assert toy.steps(tmp_path / "plain") == toy.steps(tmp_path / "scaled")
    assert 1 < state.scale < scaling.START and not state.skipped


def test_the_scale_is_exact_over_a_resume(exact, furnished, tmp_path, monkeypatch):
    """It grows every third calm step here, so that it overflows again and again."""
    monkeypatch.setattr(scaling, "CALM", 3)
    folder = furnished()
    wanted = toy.section(folder, epochs=2)

    def job_of():
        return overflowing(fp16(toy.job_of(folder, wanted)))

    whole, expected = toy.train(folder, wanted, tmp_path / "whole", job_of())
    with pytest.raises(Interrupted):
        toy.train(folder, wanted, tmp_path / "cut", signalled(job_of(), 5, signal.SIGTERM))
    job, state = toy.train(folder, wanted, tmp_path / "cut", job_of())
    assert {**asdict(state), "seconds": 0} == {**asdict(expected), "seconds": 0} != asdict(State(0))
    toy.assert_same(toy.weights(whole), toy.weights(job))


def test_the_scale_grows_while_nothing_overflows(exact, furnished, tmp_path, monkeypatch):
    monkeypatch.setattr(scaling, "CALM", 3)
    folder = furnished()
    wanted = toy.section(folder)
    _, state = toy.train(folder, wanted, tmp_path, fp16(toy.job_of(folder, wanted)))
    assert state.step > 6
    assert (state.scale, state.calm) == (scaling.START * 2 ** (state.step // 3), state.step % 3)


def test_a_gradient_that_no_scale_mends_is_a_step_without_a_number(exact, furnished, tmp_path, caplog):
    folder = furnished()
    wanted = toy.section(folder)
    with pytest.raises(UserError, match=r"for the second time: write train\.precision: bf16"):
        toy.train(folder, wanted, tmp_path, overflowing(fp16(toy.job_of(folder, wanted)), limit=0.0))
    assert [line["grad_norm"] for line in toy.steps(tmp_path)] == [None]
    assert toy.steps(tmp_path)[0]["loss"] is not None


def test_real_fp16_follows_fp32(furnished, tmp_path):
    """Autocast to fp16 on a model of toy width: some 1e-3 from fp32 in the loss, weights still in fp32."""
    folder = furnished()
    wanted = toy.section(folder, learning_rate=1e-3)
    toy.train(folder, wanted, tmp_path / "fp32")
    job, state = toy.train(folder, wanted, tmp_path / "fp16", fp16(toy.job_of(folder, wanted)))
    ours, theirs = ([line["loss"] for line in toy.steps(tmp_path / name)] for name in ("fp16", "fp32"))
    assert ours == pytest.approx(theirs, rel=5e-3) and ours != theirs
    assert {p.dtype for p in job.computation.trainable.parameters.values()} == {torch.float32}
    assert not state.skipped


@pytest.mark.skipif(torch.ops.mkldnn._is_mkldnn_fp16_supported(), reason="this processor has fp16")
@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_processor_without_fp16_says_what_to_write(furnished):
    folder = furnished()
    with pytest.raises(UserError, match=r"train\.precision: this processor has no .*write bf16 or fp32"):
        toy.job_of(folder, toy.section(folder, precision="fp16"))
