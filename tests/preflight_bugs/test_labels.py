"""Planted bugs in what is trained: the wrong turns, nothing, half an answer, an empty one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from luthier.core.records import Record
from luthier.core.shards import IGNORED, Example
from tests.preflight_bugs.house import CONTEXT, alarms, house, pairs, sentence


def masked(example: Example, keep: slice) -> Example:
    """The example with labels only there."""
    labels = np.full_like(example.labels, IGNORED)
    labels[keep] = example.input_ids[keep]
    return replace(example, labels=labels)


def cut(example: Example, length: int) -> Example:
    """The example cut on the right, as a tokenizer truncates."""
    return replace(example, input_ids=example.input_ids[:length], labels=example.labels[:length])


def test_user_turns_trained_by_a_renderer_without_a_mask(tmp_path):
    built = house(tmp_path, "chat").rewrite(lambda example, record: masked(example, slice(1, None)))
    assert alarms(built.subject()) == {"user-turns-trained": "error"}


def test_user_turns_trained_by_generation_markers_around_the_wrong_turn(tmp_path):
    """The labels cover the last user turn and its end, and not the answer."""

    def the_turn_before(example: Example, record: Record) -> Example:
        ends = np.flatnonzero(example.input_ids == example.input_ids[-1])  # of each turn
        return masked(example, slice(int(ends[-3]) + 1, int(ends[-2]) + 1))

    built = house(tmp_path, "chat").rewrite(the_turn_before)
    assert alarms(built.subject()) == {"user-turns-trained": "error"}


def test_headers_of_the_template_trained_are_worth_a_warning(tmp_path):
    """The label of `<|im_start|>assistant` does no harm, but nobody asked for it."""
    built = house(tmp_path, "chat")
    before = len(built.job().template.encoder.start("<|im_start|>assistant\n"))

    def with_header(example: Example, record: Record) -> Example:
        return masked(example, slice(int(np.flatnonzero(example.labels != IGNORED)[0]) - before, None))

    assert alarms(built.rewrite(with_header).subject()) == {"user-turns-trained": "warning"}


def test_all_labels_masked_where_no_marker_is_found(tmp_path):
    built = house(tmp_path, "chat").rewrite(lambda example, record: masked(example, slice(0, 0)))
    assert alarms(built.subject()) == {"all-labels-masked": "error"}


def test_all_labels_masked_in_one_row_only(tmp_path):
    """One row in the shard is enough."""
    built = house(tmp_path, "chat")
    seen = []

    def first_only(example: Example, record: Record) -> Example:
        seen.append(record)
        return masked(example, slice(0, 0)) if len(seen) == 1 else example

    subject = built.rewrite(first_only).subject()
    assert alarms(subject) == {"all-labels-masked": "error"}


def test_answer_truncated_by_a_limit_on_the_length(tmp_path):
    built = house(tmp_path, "plain").rewrite(lambda example, record: cut(example, len(example.input_ids) - 4))
    assert alarms(built.subject()) == {"answer-truncated": "error"}


def test_answer_truncated_before_the_stop_token_is_put_behind_it(tmp_path):
    """A renderer that makes room for the stop token at the cost of the answer."""

    def squeeze(example: Example, record: Record) -> Example:
        keep = np.r_[0 : len(example.input_ids) - 4, len(example.input_ids) - 1]
        return replace(example, input_ids=example.input_ids[keep], labels=example.labels[keep])

    assert alarms(house(tmp_path, "plain").rewrite(squeeze).subject()) == {"answer-truncated": "error"}


def test_answer_truncated_for_an_encoder_decoder(tmp_path):
    built = house(tmp_path, "t5").rewrite(lambda example, record: replace(example, labels=example.labels[:-4]))
    assert alarms(built.subject()) == {"answer-truncated": "error"}


def test_prompt_fills_context_where_rows_are_cut_on_the_right(tmp_path):
    """One row is longer than the model reads, and all of what is kept of it is prompt."""
    context = 64
    rows = [*pairs(), {"prompt": sentence(7777, 70), "completion": sentence(7778, 5)}]
    built = house(tmp_path, "plain", rows=rows, data={"split": {"validation": 2, "test": 2}})
    lengths = built.job().lengths
    assert context < lengths.max() < CONTEXT and np.sort(lengths)[-2] < context
    short = replace(built, model={"context": context}).rewrite(lambda example, record: cut(example, context))
    assert alarms(short.subject()) == {"prompt-fills-context": "error"}


def test_prompt_fills_context_of_an_encoder_that_loses_the_instruction_at_the_end(tmp_path):
    context = 64
    rows = [*pairs(), {"prompt": sentence(7777, 70), "completion": sentence(7778, 5)}]
    built = house(tmp_path, "t5", rows=rows, data={"split": {"validation": 2, "test": 2}})

    def cut_input(example: Example, record: Record) -> Example:
        return replace(example, input_ids=np.r_[example.input_ids[: context - 1], example.input_ids[-1]])

    assert built.job().shard.input_lengths.max() > context
    short = replace(built, model={"context": context})
    long_only = short.rewrite(lambda e, r: cut_input(e, r) if len(e.input_ids) > context else e)
    assert alarms(long_only.subject()) == {"prompt-fills-context": "error"}


def test_prompts_cut_from_the_left_are_no_bug(tmp_path):
    rows = [{**row, "prompt": sentence(7000 + i, 70 if i % 3 else 9)} for i, row in enumerate(pairs())]
    for kind in ("plain", "t5"):
        folder = tmp_path / kind
        folder.mkdir()
        built = house(folder, kind, rows=rows, model={"context": 64}, data={"too_long": "truncate"})
        assert built.job().shard.input_lengths.max() == 64
        assert alarms(built.subject()) == {}


def test_conversations_cut_from_the_left_keep_their_last_answer(tmp_path):
    """All turns are trained; of a long conversation the first ones are cut off."""
    built = house(tmp_path, "chat", model={"context": 40}, data={"too_long": "truncate", "train_on": "assistant"})
    assert built.job().shard.input_lengths.min() == 40
    assert alarms(built.subject()) == {"system-prompt-lost": "warning"}


def test_empty_answers_in_the_rows(tmp_path):
    """A column that is empty, rendered as it stands: a stop token and nothing else."""
    built = house(tmp_path, "plain")
    template = built.job().template

    def emptied(body: dict) -> dict:
        return {**body, "completion": " "}

    def render(example: Example, record: Record) -> Example:
        return template.render(replace(record, completion=" "))

    assert alarms(built.rewrite(render, emptied).subject()) == {"empty-answer": "error"}
