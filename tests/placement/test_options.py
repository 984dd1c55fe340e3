"""What a placement refuses before anything is started, each with what to write instead."""

from __future__ import annotations

import pytest
import torch

from luthier.core.artefacts import placeless
from luthier.core.errors import UserError
from luthier.engine.placement import PLACEMENTS
from luthier.pipeline.validate import validate
from luthier.recipe.load import identity, override, parse

CPU = torch.device("cpu")
RECIPE = {"name": "placed", "model": {"base": "builtin:llama"}, "data": {"sources": "rows.jsonl"}}


def processes(started=0, **options):
    entry = PLACEMENTS["fsdp"]
    return entry.processes(entry.config(**options), started, CPU)


def recipe(*overrides):
    return parse(override(RECIPE, overrides))


@pytest.mark.parametrize(
    ("options", "started", "said"),
    [
        ({}, 0, r"no GPU: write how many .* train\.placement\.processes: 2"),
        ({"processes": 4}, 2, r"2 processes were started and train\.placement\.processes is 4: leave it out"),
        ({"processes": 2, "offload": True}, 0, r"train\.placement\.offload .* no GPU: leave it out"),
        ({"processes": 4, "shard": "hybrid", "group": 3}, 0, r"group is 3, which does not divide 4 processes"),
        ({"processes": 4, "shard": "hybrid", "group": 4}, 0, r"in one group is `parameters`: write a smaller"),
        ({"processes": 4, "shard": "hybrid"}, 0, r"in one group is `parameters`: write a smaller"),
        ({"processes": 4, "group": 2}, 0, r"group is of shard: hybrid"),
    ],
)
def test_what_does_not_fit_this_machine_is_refused(options, started, said):
    with pytest.raises(UserError, match=said):
        processes(started, **options)


def test_how_many_train_together():
    assert processes(processes=3) == 3
    assert processes(started=8) == 8, "a launcher's own"
    assert processes(processes=4, shard="hybrid", group=2) == 4
    one = PLACEMENTS["one"]
    assert one.processes(one.config(), 0, CPU) == one.processes(one.config(), 1, CPU) == 0
    with pytest.raises(UserError, match=r"4 processes were started .* write train\.placement: fsdp"):
        one.processes(one.config(), 4, CPU)


def test_an_optimiser_that_looks_at_whole_matrices_is_refused_with_its_key():
    validate(recipe("train.placement=fsdp", "train.optimizer=sgd"))
    with pytest.raises(
        UserError, match=r"train\.placement: adafactor cannot do with the part of a matrix.*take one of .*adamw"
    ):
        validate(recipe("train.placement=fsdp", "train.optimizer=adafactor"))
    with pytest.raises(UserError, match=r"train\.placement: no placement is called 'fsdp2': did you mean 'fsdp'"):
        validate(recipe("train.placement=fsdp2"))
    with pytest.raises(UserError, match=r"train\.placement\.shard"):
        validate(recipe("train.placement.name=fsdp", "train.placement.shard=everything"))


def test_a_run_is_the_same_run_wherever_it_trains():
    """So that one process can go on with what two began; another arithmetic is another run."""
    plain, variant = recipe(), "train.variants={a: {placement: {name: fsdp, processes: 2}}}"
    assert identity(recipe("train.placement={name: fsdp, processes: 4, shard: none}")) == identity(plain)
    assert identity(recipe(variant)) == identity(recipe("train.variants={a: {}}"))
    assert identity(recipe("train.placement={name: fsdp, precision: bf16}")) != identity(plain)
    assert identity(recipe("train.epochs=1")) != identity(plain)


def test_only_settings_of_a_training_lose_their_placement():
    body = {"data": {"placement": "a source"}, "training": {"placement": "fsdp", "epochs": 1}}
    assert placeless(body) == {"data": {"placement": "a source"}, "training": {"epochs": 1}}
