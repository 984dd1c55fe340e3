"""Planted bugs at the end of an answer: no stop token, one that is masked, another one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from torch import Tensor

from luthier.core.records import Record
from luthier.core.shards import Example
from luthier.engine.job import Job
from luthier.objectives.contract import Batch
from luthier.plan.collect import rows_of
from luthier.plan.subject import Subject
from tests.preflight_bugs.house import House, alarms, first_batch, house


def without_labels(batch: Batch, gone: Tensor) -> Batch:
    """The batch without these labels."""
    return replace(batch, where=batch.where[~gone], labels=batch.labels[~gone], owner=batch.owner[~gone])


def mask_padding_by_id(batch: Batch, pad: int) -> Batch:
    """What many collators do: every label that equals the padding token becomes -100."""
    return without_labels(batch, batch.labels == pad)


def subject_of_batch(built: House, job: Job, batch: Batch) -> Subject:
    """The subject whose rows come from this batch."""
    clean = built.subject(job)
    return replace(clean, rows=rows_of(job, [batch], clean.splits["train"]))


@pytest.mark.parametrize("kind", ["chat", "plain"])
def test_stop_token_absent_where_rendering_ends_with_the_answer(tmp_path, kind):
    def bare(example: Example, record: Record) -> Example:
        return replace(example, input_ids=example.input_ids[:-1], labels=example.labels[:-1])

    assert alarms(house(tmp_path, kind).rewrite(bare).subject()) == {"stop-token-absent": "error"}


def test_stop_token_absent_for_an_encoder_decoder(tmp_path):
    built = house(tmp_path, "t5").rewrite(lambda example, record: replace(example, labels=example.labels[:-1]))
    assert alarms(built.subject()) == {"stop-token-absent": "error"}


def test_stop_token_masked_by_a_collator_that_masks_padding_by_its_id(tmp_path):
    """The tokenizer pads with its end token."""
    built = house(tmp_path, "plain")
    job = built.job()
    assert job.base.tokenizer.pad_token_id == job.template.stop
    batch = first_batch(job)
    assert alarms(subject_of_batch(built, job, batch)) == {}
    broken = mask_padding_by_id(batch, job.layout.pad)
    assert alarms(subject_of_batch(built, job, broken)) == {"stop-token-masked": "error"}


def test_the_same_collator_does_no_harm_where_padding_has_a_token_of_its_own(tmp_path):
    built = house(tmp_path, "chat")
    job = built.job()
    broken = mask_padding_by_id(first_batch(job), job.layout.pad)
    assert alarms(subject_of_batch(built, job, broken)) == {}


@pytest.mark.data
def test_stop_token_masked_with_the_real_stories_tokenizer(tmp_path, data_folder):
    """stories260K pads with its end token."""
    built = house(tmp_path, "plain", model={"base": str(data_folder / "stories260K" / "hf")})
    job = built.job()
    batch = first_batch(job)
    assert alarms(subject_of_batch(built, job, batch)) == {}
    broken = mask_padding_by_id(batch, job.base.tokenizer.pad_token_id)
    assert alarms(subject_of_batch(built, job, broken)) == {"stop-token-masked": "error"}


@pytest.mark.parametrize("kind", ["chat", "t5"])
def test_stop_token_masked_by_a_mask_that_is_one_token_short(tmp_path, kind):
    def short(example: Example, record: Record) -> Example:
        return replace(example, labels=np.r_[example.labels[:-1], -100])

    assert alarms(house(tmp_path, kind).rewrite(short).subject()) == {"stop-token-masked": "error"}


@pytest.mark.parametrize(("kind", "other"), [("chat", "<pad>"), ("plain", "<s>"), ("t5", "<pad>")])
def test_stop_token_other_than_the_one_at_which_generation_stops(tmp_path, kind, other):
    """Rows that another tool rendered with an end token of its own."""
    built = house(tmp_path, kind)
    token = built.job().base.tokenizer.convert_tokens_to_ids(other)

    def replaced(example: Example, record: Record) -> Example:
        inputs = example.input_ids if kind == "t5" else np.r_[example.input_ids[:-1], token]
        return replace(example, input_ids=inputs, labels=np.r_[example.labels[:-1], token])

    assert alarms(built.rewrite(replaced).subject()) == {"stop-token-other": "error"}


def test_an_answer_that_ends_in_white_space_is_no_bug(tmp_path: Path):
    built = house(tmp_path, "plain")
    template = built.job().template

    def spaced(body: dict) -> dict:
        return {**body, "completion": f"{body['completion']} \n"}

    def render(example: Example, record: Record) -> Example:
        return template.render(replace(record, completion=f"{record.completion} \n"))

    assert alarms(built.rewrite(render, spaced).subject()) == {}
