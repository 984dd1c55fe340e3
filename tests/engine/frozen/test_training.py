"""A run that computes its frozen part once is the run that computes it in every epoch."""

from __future__ import annotations

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from luthier.core.errors import Interrupted
from luthier.engine.frozen.part import frozen_part
from luthier.engine.frozen.reuse import ACTIVATIONS, reused
from luthier.engine.frozen.trial import DRAWS
from luthier.engine.job import draw
from luthier.engine.step import step_loss
from luthier.recipe.schema import STEP
from luthier.train import stage
from tests.train import toy

TOP = {"name": "lora", "rank": 4, "layers": 1}
EPOCHS = 2
ALONE = {"rows_per_step": 1, "tokens_per_step": STEP}


def wanted(folder, mode="auto", **training):
    return toy.section(folder, **{"method": TOP, "epochs": EPOCHS, "cache_activations": mode, **training})


def padded(job):
    """The same job on padded rows."""
    return replace(job, layout=replace(job.layout, packed=False))


def counted(job):
    """Forward passes of the frozen part's first norm, in training mode, by epoch."""
    part = frozen_part(job.computation.trainable)
    assert part is not None
    lowest = next(module for module in part.modules[0].modules() if type(module).__name__.endswith("Norm"))
    passes, steps = [0] * EPOCHS, iter(range(1, len(job.steps) + 1))
    at = [0]

    def count(module, args):
        passes[job.steps.epochs[at[0]]] += job.base.model.training

    def stepped(*arguments):
        at[0] = min(next(steps), len(job.steps) - 1)

    lowest.register_forward_pre_hook(count)
    job.optimizer.register_step_pre_hook(stepped)
    return passes


def stop_in(left):
    """Send this process a signal in its last step."""
    if left == 1:
        os.kill(os.getpid(), signal.SIGTERM)


def compare(folder, tmp_path, change=lambda job: job, tolerance=1e-5, **training):
    """Losses, validations and weights of both ways; how often the lowest layer was computed in each epoch."""
    found = []
    for mode in ("off", "auto"):
        section = wanted(folder, mode, **training)
        job = change(toy.job_of(folder, section))
        passes = counted(job)
        toy.train(folder, section, tmp_path / mode, job)
        losses = [line["loss"] for line in toy.steps(tmp_path / mode)]
        losses += [line["validation"]["loss"] for line in toy.validations(tmp_path / mode)]
        found.append((losses, toy.weights(job), passes))
    (expected, theirs, every), (losses, ours, once) = found
    assert np.allclose(losses, expected, rtol=min(tolerance, 1e-6), atol=0)
    toy.assert_same(theirs, ours, tolerance)
    assert all(every) and once[0] >= every[0]
    return once[1]


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "t5"])
def test_the_training_is_the_same(furnished, tmp_path, family):
    assert compare(furnished(family), tmp_path) == 0


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_the_same_with_padded_rows(furnished, tmp_path, family):
    assert compare(furnished(family), tmp_path, padded) == 0


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_the_same_bits_where_kernels_see_the_same_shapes(furnished, tmp_path, family):
    """A row alone in each step is as long in every epoch."""
    assert compare(furnished(family), tmp_path, tolerance=0.0, **ALONE, max_steps=40) == 0


def test_dropout_above_the_frozen_part_draws_the_same(furnished, tmp_path):
    method = {**TOP, "dropout": 0.3}
    assert compare(furnished("llama"), tmp_path, method=method, **ALONE, tolerance=0.0) == 0


@pytest.mark.parametrize("family", ["gpt2", "t5"])
def test_activations_above_may_be_computed_again(furnished, tmp_path, family):
    options = {**ALONE, "max_steps": 30, "activations": "recompute"}
    assert compare(furnished(family), tmp_path, tolerance=0.0, **options) == 0


def test_rows_may_come_in_other_batches(furnished, tmp_path):
    """Memory does not suffice in the first epoch: what is held at once is halved while rows are on disk already."""
    folder = furnished("llama")
    section = wanted(folder, tokens_per_step=80, micro_tokens=80)
    whole, _ = toy.train(folder, section, tmp_path / "whole")
    job = toy.job_of(folder, section)
    left = iter(range(2))

    def refuse(module, args, options):
        made = len(job.optimizer.state) and next(iter(job.optimizer.state.values()))["step"]
        if module.training and made == 2 and next(left, None) == 0:
            raise torch.OutOfMemoryError("as if")

    job.base.model.register_forward_pre_hook(refuse, with_kwargs=True)
    passes = counted(job)
    _, state = toy.train(folder, section, tmp_path / "halved", job)
    assert state.micro_tokens == 40 and passes[1] == 0
    toy.assert_same(toy.weights(whole), toy.weights(job), 1e-5)


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_stopped_and_resumed_it_ends_in_the_same_bits(furnished, tmp_path, family):
    """Stopped in the first epoch, with rows still to come, and in the second."""
    folder, cut = furnished(family), tmp_path / "cut"
    section = wanted(folder)
    expected, _ = toy.train(folder, section, tmp_path / "whole")
    first = int((expected.steps.epochs == 0).sum())
    for step in (first // 2, first + 2 - first // 2):
        job = toy.job_of(folder, section)
        left = iter(range(step, 0, -1))
        job.optimizer.register_step_pre_hook(lambda *arguments, left=left: stop_in(next(left, None)))
        with pytest.raises(Interrupted):
            toy.train(folder, section, cut, job)
    job, _ = toy.train(folder, section, cut)
    assert [line["loss"] for line in toy.steps(cut)] == [line["loss"] for line in toy.steps(tmp_path / "whole")]
    toy.assert_same(toy.weights(expected), toy.weights(job))


def test_rows_that_are_damaged_on_disk_are_computed_again(furnished, tmp_path):
    folder = furnished("llama")
    section = wanted(folder)
    expected, _ = toy.train(folder, section, tmp_path / "whole")
    job = toy.job_of(folder, section)
    left = iter(range(len(job.steps) * 3 // 4, 0, -1))
    job.optimizer.register_step_pre_hook(lambda *arguments: stop_in(next(left, None)))
    with pytest.raises(Interrupted):
        toy.train(folder, section, tmp_path / "cut", job)
    for name in ("train", "validation"):
        states = tmp_path / "cut" / ACTIVATIONS / name / "states.bin"
        body = bytearray(states.read_bytes())
        body[::100] = [byte ^ 1 for byte in body[::100]]
        states.write_bytes(body[:-200])
    job = toy.job_of(folder, section)
    passes = counted(job)
    toy.train(folder, section, tmp_path / "cut", job)
    assert sum(passes) > DRAWS
    toy.assert_same(toy.weights(expected), toy.weights(job), 1e-5)


@pytest.mark.parametrize(("family", "size"), [("llama", 4), ("t5", 2)])
def test_the_same_bits_in_bf16(furnished, tmp_path, family, size):
    """The residual stream is kept in fp32, as it is; what T5's encoder gives has been rounded by its last norm."""
    folder = furnished(family)
    assert compare(folder, tmp_path, tolerance=0.0, **ALONE, max_steps=40, precision="bf16") == 0
    job = toy.job_of(folder, wanted(folder))
    tokens, width = job.shard.input_offsets[-1], job.base.model.config.hidden_size
    assert (tmp_path / "auto" / ACTIVATIONS / "train" / "states.bin").stat().st_size == tokens * width * size


def test_the_files_are_gone_with_the_variant(furnished, tmp_path):
    folder, out = furnished("llama"), tmp_path / "variant"
    out.mkdir()
    seen = []

    def evaluate(*arguments):
        seen.append((out / ACTIVATIONS / "train" / "states.bin").exists())
        return {"exact_match": 1.0}

    stage.run(wanted(folder, select="exact_match"), toy.inputs_of(folder), out, evaluate)
    assert seen and all(seen)
    assert not (out / ACTIVATIONS).exists()


def test_a_model_is_left_as_it_was(furnished, tmp_path):
    job, _ = toy.train(furnished("llama"), wanted(furnished("llama")), tmp_path)
    for module in job.base.model.modules():
        assert isinstance(module, nn.Module) and "forward" not in vars(module)
        assert not module._forward_hooks


@pytest.mark.parametrize("written", [0, 1])
def test_a_disk_that_fails_costs_time_and_no_training(furnished, tmp_path, caplog, written):
    """Writes fail from the first or the second batch on; what was kept before gives its room back."""
    folder = furnished("llama")
    job = toy.job_of(folder, wanted(folder))
    batches = [batch for step in range(3) for batch in draw(job, step, 40)]
    expected = [step_loss(job.computation, [batch], backward=False) for batch in batches]
    job.base.model.train()
    with reused(job, tmp_path / ACTIVATIONS, job.shard, begun=False) as reuse:
        store, computation = reuse.training._store, replace(job.computation, around=reuse.training)
        for batch in batches[:written]:
            step_loss(computation, [batch], backward=False)
        assert (store.bytes > 0) == bool(written)
        with (tmp_path / ACTIVATIONS / "train" / "states.bin").open("rb") as unwritable:
            os.dup2(unwritable.fileno(), store._states)
        found = [step_loss(computation, [batch], backward=False) for batch in batches * 2]
    assert np.allclose(found, expected * 2, rtol=1e-6)
    assert "Bad file descriptor: going on without what is kept there" in caplog.text
    assert store.bytes == 0 and caplog.text.count("going on") == 1
