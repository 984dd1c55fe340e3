"""What goes wrong while training: losses that are not numbers, memory and disks that do not suffice."""

from __future__ import annotations

import errno
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from luthier.core.errors import DiskError, Interrupted, UserError
from luthier.core.records import Origin, PromptCompletion
from luthier.train import checkpoint, stage
from luthier.train.journal import Journal
from tests.train import toy
from tests.train.test_resume import signalled

POISONED = 9  # the row whose word is outside the vocabulary, so that it reads the planted embedding
UNKNOWN, PADDING = 2, 0


@pytest.fixture
def poisoned(tmp_path):
    """A folder in whose base the embedding of unknown words is infinite, and one row that holds such a word."""
    base = toy.write_base(tmp_path / "base", "llama")
    tensors = load_file(base / "model.safetensors")
    tensors["model.embed_tokens.weight"][UNKNOWN] = torch.inf
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    rows = toy.questions(24)
    rows[POISONED] = PromptCompletion("the zebra ran", "the house", Origin("toy", "toy.jsonl", POISONED))
    toy.write_data(tmp_path / "data", base, rows, toy.questions(6, seed=1))
    return tmp_path


def test_a_step_that_is_no_number_is_left_out_as_if_it_had_not_been_planned(poisoned, caplog):
    wanted = toy.section(poisoned)
    job, state = toy.train(poisoned, wanted, poisoned / "out")
    (bad,) = state.skipped
    rows = job.steps[bad][1].tolist()
    assert POISONED in rows
    (warning,) = [record for record in caplog.records if record.event == "train.not_finite"]
    assert warning.values == {"rows": rows} and f"toy.jsonl row {POISONED}" in warning.message
    assert [line["step"] for line in toy.steps(poisoned / "out") if line["loss"] is None] == [bad + 1]
    assert "NaN" not in (poisoned / "out" / "metrics.jsonl").read_text()
    planned = toy.job_of(poisoned, wanted)
    without = replace(planned, steps=[*planned.steps[:bad], *planned.steps[bad + 1 :]])
    toy.train(poisoned, wanted, poisoned / "without", without)
    toy.assert_same(toy.weights(without), toy.weights(job))


def test_the_second_such_step_ends_the_run_and_names_the_rows(poisoned):
    with pytest.raises(UserError, match=rf"toy.jsonl row {POISONED}\b.*for the second time"):
        toy.train(poisoned, toy.section(poisoned, epochs=2), poisoned / "out")


def test_a_learning_rate_that_overflows_ends_the_run(furnished, tmp_path):
    folder = furnished()
    with pytest.raises(UserError, match=r"lower train\.learning_rate"):
        toy.train(folder, toy.section(folder, learning_rate=1e38, validate_every=0), tmp_path)
    assert [line["step"] for line in toy.steps(tmp_path)] == [1, 2], "two steps are tried, the third is not"


def test_a_model_that_gives_no_number_on_the_validation_rows_is_never_the_best(furnished, tmp_path):
    folder = furnished()
    blind = toy.section(folder, learning_rate=1e38, max_steps=1, validate_every=0)
    with pytest.raises(UserError, match="no validation gave a loss that is a number"):
        stage.run(blind, toy.inputs_of(folder), tmp_path / "blind", toy.not_asked)
    assert not (tmp_path / "blind" / "model").exists()
    _, state = toy.train(folder, toy.section(folder, learning_rate=1e38, max_steps=1), tmp_path / "first")
    first, last = toy.validations(tmp_path / "first")
    assert state.best_step == 0 and state.best == first["validation"]["loss"]
    assert last["validation"] == {"loss": None} and not last["best"]


def of_the_device():
    raise torch.OutOfMemoryError("CUDA out of memory")


def of_the_machine():
    torch.empty(2**60, dtype=torch.uint8)


def memory_for(job, tokens, shortage=of_the_device, training=True):
    """Let the job's model read at most this many tokens at once while it trains, or while it is validated."""

    def refuse(module, args, kwargs):
        if module.training == training and (kwargs["input_ids"] != PADDING).sum() > tokens:
            shortage()

    job.computation.trainable.model.register_forward_pre_hook(refuse, with_kwargs=True)
    return job


@pytest.mark.parametrize(("family", "shortage"), [("llama", of_the_device), ("bloom", of_the_machine)])
def test_out_of_memory_halves_the_micro_batch_and_changes_nothing_else(furnished, tmp_path, caplog, family, shortage):
    folder = furnished(family)
    large = toy.section(folder, tokens_per_step=160, micro_tokens=160)
    job, state = toy.train(folder, large, tmp_path / "large", memory_for(toy.job_of(folder, large), 100, shortage))
    assert state.micro_tokens == 80
    assert [record.event for record in caplog.records].count("train.memory") == 1
    small = toy.section(folder, tokens_per_step=160, micro_tokens=80)
    expected, _ = toy.train(folder, small, tmp_path / "small")
    toy.assert_same(toy.weights(expected), toy.weights(job))
    assert toy.steps(tmp_path / "small") == toy.steps(tmp_path / "large")


def test_the_smaller_micro_batch_stays_after_a_resume(furnished, tmp_path):
    folder = furnished()
    wanted = toy.section(folder, tokens_per_step=160, micro_tokens=160)
    toy.train(folder, wanted, tmp_path, memory_for(toy.job_of(folder, wanted), 100))
    _, state = toy.train(folder, wanted, tmp_path)
    assert state.micro_tokens == 80


def test_a_row_that_never_fits_is_said_with_its_length(furnished, tmp_path):
    folder = furnished()
    wanted = toy.section(folder)
    job = memory_for(toy.job_of(folder, wanted), 8)
    longest = max(job.lengths[job.steps[0][1]])
    with pytest.raises(UserError, match=rf"a row of {longest} tokens does not fit"):
        toy.train(folder, wanted, tmp_path, job)


def test_another_error_is_not_taken_for_a_shortage(furnished, tmp_path):
    folder = furnished()
    wanted = toy.section(folder)

    def broken():
        torch.zeros(2) + torch.zeros(3)

    with pytest.raises(RuntimeError, match="must match the size"):
        toy.train(folder, wanted, tmp_path, memory_for(toy.job_of(folder, wanted), 8, broken))


@pytest.mark.parametrize(("family", "shortage"), [("llama", of_the_device), ("bloom", of_the_machine)])
def test_out_of_memory_in_a_validation_halves_its_batches_and_changes_nothing_else(
    furnished, tmp_path, caplog, family, shortage
):
    folder = furnished(family)
    wanted = toy.section(folder, micro_tokens=160)
    expected, _ = toy.train(folder, wanted, tmp_path / "large")
    job, state = toy.train(
        folder, wanted, tmp_path / "small", memory_for(toy.job_of(folder, wanted), 40, shortage, training=False)
    )
    assert "engine.memory" in [record.event for record in caplog.records] and state.micro_tokens == 160
    toy.assert_same(toy.weights(expected), toy.weights(job))
    losses = [
        [line["validation"]["loss"] for line in toy.validations(tmp_path / name)] for name in ("large", "small")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_a_row_that_cannot_even_be_validated_is_said_with_its_length(furnished, tmp_path):
    folder = furnished()
    wanted = toy.section(folder)
    with pytest.raises(UserError, match=r"a row of \d+ tokens does not fit into memory when it is scored"):
        toy.train(folder, wanted, tmp_path, memory_for(toy.job_of(folder, wanted), 3, training=False))


@pytest.fixture
def begun(furnished, tmp_path):
    """A run with a checkpoint after step 3, and its journal."""
    folder = furnished()
    wanted = toy.section(folder)
    with pytest.raises(Interrupted):
        toy.train(folder, wanted, tmp_path / "run", signalled(toy.job_of(folder, wanted), 3, signal.SIGTERM))
    return folder, wanted, tmp_path / "run"


def assert_goes_on(folder, wanted, out):
    """Resumed from its only checkpoint, it ends as one that was left alone."""
    assert checkpoint.steps(out / "checkpoints") == ["00000003"]
    job, _ = toy.train(folder, wanted, out)
    expected, _ = toy.train(folder, wanted, out.parent / "alone")
    toy.assert_same(toy.weights(expected), toy.weights(job))
    assert toy.steps(out) == toy.steps(out.parent / "alone")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full, the disk that is always full")
def test_a_full_disk_under_the_journal_is_said_and_the_run_goes_on_afterwards(begun, monkeypatch):
    folder, wanted, out = begun

    def write(self, **values):
        """The journal's own writing, its file on a full disk from step 5 on."""
        if values["step"] == 5:
            self._path = Path("/dev/full")
        ordinary(self, **values)

    ordinary = Journal.write
    monkeypatch.setattr(Journal, "write", write)
    with pytest.raises(DiskError, match="no space left on the disk of /dev/full: free some and run `luthier resume`"):
        toy.train(folder, wanted, out)
    monkeypatch.undo()
    assert_goes_on(folder, wanted, out)


def test_a_full_disk_under_a_checkpoint_leaves_the_one_before_alone(begun, monkeypatch):
    folder, wanted, out = begun

    def full(path, *arguments):
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(checkpoint.tensors, "write", full)
    with pytest.raises(DiskError, match="no space left on the disk"):
        toy.train(folder, wanted, out)
    monkeypatch.undo()
    assert_goes_on(folder, wanted, out)
