"""The plan of a variant whose lower layers are computed once."""

from __future__ import annotations

import pytest

from luthier.core.shards import Shard
from luthier.engine.frozen.reuse import ACTIVATIONS, decide
from luthier.engine.job import draw
from luthier.plan.cost import Rates
from luthier.plan.replay import decision, with_replay
from tests.train import toy

RATES = Rates(trained=7.0, updated=6.0, scored=5.0, read=4.0, spoken=3.0)
TOP = {"name": "lora", "rank": 4, "layers": 1}


def planned(furnished, tmp_path, family="llama", **training):
    folder = furnished(family)
    job = toy.job_of(folder, toy.section(folder, **{"method": TOP, "epochs": 3, **training}))
    validation = Shard(folder / "data" / "validation")
    return job, decision(job, tmp_path, validation), validation


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_the_frozen_part_is_left_out_of_steps_whose_states_are_kept(furnished, tmp_path, family):
    job, found, validation = planned(furnished, tmp_path, family)
    assert found.words == decide(job, tmp_path / "other", validation).words
    computed = []
    assert found.part is not None
    handle = found.part.modules[-1].register_forward_pre_hook(lambda *_: computed.append(1))
    usual = len(draw(job, 0, job.settings.micro_tokens))
    rates = with_replay(job, found, tmp_path, validation, RATES)
    handle.remove()
    assert rates.replayed is not None and rates.rescored is not None
    assert min(rates.trained, rates.replayed, rates.scored, rates.rescored) > 0
    assert RATES.trained not in (rates.trained, rates.replayed), "measured"
    assert (rates.updated, rates.read, rates.spoken) == (6.0, 4.0, 3.0)
    assert 0 < len(computed) <= 2 * 4 + 1, f"{usual} micro-batches: both usual steps and a validation, once each"
    assert not (tmp_path / ACTIVATIONS).exists()


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"cache_activations": "off"}, "computed in every epoch: train.cache_activations is off"),
        ({"placement": {"name": "fsdp", "processes": 2}}, "every epoch: several processes train together"),
        ({"epochs": 1}, "computed in every epoch: no row is seen twice"),
        ({"method": "full"}, ""),
    ],
)
def test_where_nothing_is_kept_the_rates_stay(furnished, tmp_path, training, words):
    job, found, validation = planned(furnished, tmp_path, **training)
    assert found.words.endswith(words) and bool(found.words) == bool(words)
    assert with_replay(job, found, tmp_path, validation, RATES) is RATES
