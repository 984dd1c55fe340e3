"""A job: the same from the same seed, with the rows that the recipe weighs, each drawn by row and epoch alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from luthier.core.errors import UserError
from luthier.core.files import read_json, write_json
from luthier.core.shards import Shard, write_shard
from luthier.engine.accelerated import accelerate
from luthier.engine.device import arithmetic, resolve_precision
from luthier.engine.halves import halve_frozen
from luthier.engine.job import draw, examples, held_out
from luthier.engine.steps import row_lengths
from luthier.methods import METHODS
from luthier.models.load import load_base
from tests.train import toy


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toy.furnish(tmp_path_factory.mktemp("job"), "t5", objective="text")


def ids(found):
    return [(example.input_ids.tolist(), example.labels.tolist()) for example in found]


def test_the_same_seed_gives_the_same_job(folder):
    wanted = toy.section(folder, method="lora", objective="text")
    torch.manual_seed(1)
    one = toy.job_of(folder, wanted)
    torch.manual_seed(2)
    two = toy.job_of(folder, wanted)
    toy.assert_same(toy.weights(one), toy.weights(two))
    for ours, theirs in zip(one.steps, two.steps, strict=True):
        assert ours[0] == theirs[0] and ours[1].tolist() == theirs[1].tolist()


def test_what_is_drawn_depends_on_row_and_epoch_alone(folder):
    job = toy.job_of(folder, toy.section(folder, objective="text"))
    rows = np.arange(6)
    forwards, backwards = examples(job, job.shard, rows, 0), examples(job, job.shard, rows[::-1], 0)
    assert ids(forwards) == ids(backwards)[::-1]
    assert ids(forwards) != ids(examples(job, job.shard, rows, 1)), "spans are drawn anew in each epoch"
    assert [example.row for example in backwards] == [5, 4, 3, 2, 1, 0]
    validation = Shard(folder / "data" / "validation")
    assert ids(held_out(job, validation)) == ids(held_out(job, validation)), "but held-out rows never change"


def test_a_step_is_drawn_whole_whatever_is_held_at_once(folder):
    job = toy.job_of(folder, toy.section(folder, objective="text", tokens_per_step=200))
    for step, (_, rows) in enumerate(job.steps):
        for micro_tokens in (16, 60, 10_000):
            batches = draw(job, step, micro_tokens)
            assert sorted(row for batch in batches for row in batch.rows) == sorted(rows.tolist())
            for batch in batches:
                own = job.lengths[list(batch.rows)]
                cost = own.sum() if job.layout.packed else own.max() * len(own)
                assert cost <= micro_tokens or len(batch.rows) == 1


def test_rows_are_seen_as_their_sources_weigh(tmp_path):
    """Of two sources, one with weight 2 and one not learnt from: an epoch is the first one's rows twice."""
    folder = toy.furnish(tmp_path)
    shard = Shard(folder / "data" / "train")
    rows, records = [shard[row] for row in range(len(shard))], list(shard.rows)
    write_shard(folder / "data" / "train", rows, records, [row % 2 for row in range(len(rows))], ["even", "odd"])
    write_json(folder / "data" / "card.json", {"weights": {"even": 2.0, "odd": 1.0}})
    job = toy.job_of(folder, toy.section(folder, on=("even",)))
    seen = np.concatenate([rows for _, rows in job.steps])
    assert sorted(seen.tolist()) == sorted([*range(0, len(rows), 2)] * 2)
    with pytest.raises(UserError, match=r"no training rows for train\.on = \['none'\]"):
        toy.job_of(folder, toy.section(folder, on=("none",)))


def test_what_a_row_costs(folder, tmp_path):
    """An encoder-decoder reads its input and its labels; virtual tokens are read with every row."""
    shard = Shard(toy.furnish(tmp_path, "t5") / "data" / "train")
    sums = [len(shard[row].input_ids) + len(shard[row].labels) for row in range(len(shard))]
    assert row_lengths(shard, encoder_decoder=True, prefix=3).tolist() == [cost + 3 for cost in sums]
    assert row_lengths(shard, encoder_decoder=False).tolist() == shard.input_lengths.tolist()


def test_arithmetic():
    cpu = torch.device("cpu")
    assert (resolve_precision("auto", cpu), resolve_precision("bf16", cpu)) == ("fp32", "bf16")
    a = torch.randn(4, 4)
    with arithmetic("bf16", cpu):
        assert (a @ a).dtype == torch.bfloat16
    with arithmetic("fp32", cpu):
        assert (a @ a).dtype == torch.float32


def test_virtual_tokens_that_leave_no_room_are_refused(tmp_path):
    folder = toy.furnish(tmp_path, "gpt2")
    longest = read_json(folder / "base" / "config.json")["n_positions"]
    rows = int(Shard(folder / "data" / "train").input_lengths.max())
    fits = longest - rows
    toy.job_of(folder, toy.section(folder, method={"name": "prompt", "tokens": fits}))
    with pytest.raises(UserError, match=rf"row of {rows} .* the {longest} .*: write train.method.tokens: {fits} or"):
        toy.job_of(folder, toy.section(folder, method={"name": "prompt", "tokens": fits + 1}))


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "t5", "bloom", "gemma3_text"])
@pytest.mark.parametrize("method", [{"name": "lora", "targets": "all-linear"}, "prompt", "full"])
def test_weights_read_in_halves_are_those_halved_after_loading(tmp_path, family, method):
    """To the bit, what trains among them: the base loaded in fp32, made ready in fp32, and its frozen part halved."""
    folder = toy.furnish(tmp_path, family)
    wanted = toy.section(folder, method=method, precision="bf16")
    job = toy.job_of(folder, wanted)
    torch.manual_seed(wanted.seed)
    base = load_base(wanted.model, wanted.seed)
    entry, named = METHODS[wanted.training.method.name], wanted.training.method
    trainable = entry.prepare(base.model, entry.config(**named.options), wanted.seed)
    acceleration = accelerate(base.model, base.packed)
    halve_frozen(base.model, "bf16")
    assert (job.base.packed, job.acceleration) == (base.packed, acceleration)
    assert job.computation.trainable.parameters.keys() == trainable.parameters.keys()
    ours = dict(job.base.model.named_parameters())
    theirs = dict(base.model.named_parameters())
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert (value.dtype, value.requires_grad) == (theirs[name].dtype, theirs[name].requires_grad), name
        assert torch.equal(value, theirs[name]), name
