"""Checkpoints: which are kept, which are trusted, and which are refused."""

from __future__ import annotations

import json
import shutil
import signal

import pytest
import torch

from luthier.core.errors import Interrupted, UserError
from luthier.engine.backend import fastest
from luthier.train import checkpoint, generators
from luthier.train.stage import train_from_checkpoint
from tests.train import toy
from tests.train.test_resume import signalled

OFTEN = 1e-9  # seconds between two checkpoints: one after every step


@pytest.fixture(scope="module")
def stopped(furnished, tmp_path_factory):
    """A folder, its section, the weights in the end, and two runs: one whole, one stopped after six steps."""
    folder, out = furnished(), tmp_path_factory.mktemp("stopped")
    wanted = toy.section(folder, checkpoint_every=OFTEN)
    job, _ = toy.train(folder, wanted, out / "whole")
    with pytest.raises(Interrupted):
        toy.train(folder, wanted, out / "cut", signalled(toy.job_of(folder, wanted), 6, signal.SIGTERM))
    return folder, wanted, toy.weights(job), out


@pytest.fixture
def cut(stopped, tmp_path):
    """A copy of the stopped run, to be damaged."""
    folder, wanted, weights, out = stopped
    shutil.copytree(out / "cut", tmp_path / "cut")
    return folder, wanted, weights, out / "whole", tmp_path / "cut"


def flip(path, place=None):
    """Change one bit in the middle of a file."""
    body = bytearray(path.read_bytes())
    body[len(body) // 2 if place is None else place] ^= 1
    path.write_bytes(body)


def test_the_newest_two_are_kept(cut):
    assert checkpoint.steps(cut[-1] / "checkpoints") == ["00000005", "00000006"]


@pytest.mark.parametrize("name", [checkpoint.WEIGHTS, checkpoint.OPTIMIZER, generators.GENERATORS, checkpoint.STATE])
def test_a_damaged_one_gives_way_to_the_one_before(cut, caplog, name):
    folder, wanted, weights, whole, out = cut
    flip(out / "checkpoints" / "00000006" / name)
    job, _ = toy.train(folder, wanted, out)
    (warning,) = [record for record in caplog.records if record.event == "train.checkpoint"]
    assert name in warning.message and "taking the one before" in warning.message
    assert [record.message for record in caplog.records if record.event == "train.resume"] == ["resumed at step 5"]
    toy.assert_same(weights, toy.weights(job))
    assert toy.steps(out) == toy.steps(whole)


def test_a_state_that_still_reads_well_is_not_trusted_either(cut, caplog):
    folder, wanted, weights, _, out = cut
    path = out / "checkpoints" / "00000006" / checkpoint.STATE
    body = json.loads(path.read_text())
    body["state"]["step"] = 4
    path.write_text(json.dumps(body))
    toy.assert_same(weights, toy.weights(toy.train(folder, wanted, out)[0]))
    assert "train.checkpoint" in [record.event for record in caplog.records]


def test_a_missing_file_is_damage_too_and_with_none_left_training_begins_again(cut):
    folder, wanted, weights, whole, out = cut
    for sealed in ("00000005", "00000006"):
        (out / "checkpoints" / sealed / checkpoint.WEIGHTS).unlink()
    job, _ = toy.train(folder, wanted, out)
    toy.assert_same(weights, toy.weights(job))
    assert toy.steps(out) == toy.steps(whole)


def test_one_without_its_seal_is_none(cut):
    folder, wanted, weights, _, out = cut
    (out / "checkpoints" / "00000006" / checkpoint.STATE).unlink()
    assert checkpoint.steps(out / "checkpoints") == ["00000005"]
    toy.assert_same(weights, toy.weights(toy.train(folder, wanted, out)[0]))


@pytest.mark.parametrize(
    "other",
    [{"method": "lora"}, {"method": {"name": "prompt", "tokens": 3}}],
    ids=["lora", "prompt"],
)
def test_one_of_another_method_is_refused(cut, other):
    folder, _, _, _, out = cut
    with pytest.raises(UserError, match="another method or model: delete it"):
        toy.train(folder, toy.section(folder, **other), out)


def test_one_of_the_same_names_and_other_shapes_is_refused(furnished, tmp_path):
    """A LoRA of rank 1 would fit into one of rank 4 by broadcasting."""
    folder = furnished()
    toy.train(folder, toy.section(folder, method={"name": "lora", "rank": 1}, max_steps=1), tmp_path)
    with pytest.raises(UserError, match="another method or model: delete it"):
        toy.train(folder, toy.section(folder, method={"name": "lora", "rank": 4}, max_steps=1), tmp_path)


def test_what_was_chosen_at_start_up_is_restored_or_said(cut, caplog):
    folder, wanted, weights, _, out = cut
    before, precision = torch.get_num_threads(), torch.get_float32_matmul_precision()
    try:
        torch.set_num_threads(before + 1)
        job = toy.job_of(folder, wanted)
        train_from_checkpoint(wanted, toy.inputs_of(folder), out, job, toy.not_asked)
        toy.assert_same(weights, toy.weights(job))
        assert (torch.get_num_threads(), torch.get_float32_matmul_precision()) == (before, fastest().matmul)
    finally:
        torch.set_num_threads(before)
        torch.set_float32_matmul_precision(precision)
    assert not [record for record in caplog.records if "bit-identical" in record.message]
    bf16 = toy.section(folder, precision="bf16")
    toy.train(folder, bf16, out)
    assert [r.message for r in caplog.records if "bit-identical" in r.message] == [
        "the resumed run will not be bit-identical: precision was fp32"
    ]
