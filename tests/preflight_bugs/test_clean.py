"""The clean twins: where nothing is planted, no check says a word."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from luthier.core.records import Conversation
from luthier.plan.preflight import examine
from tests.chat.small import QWEN
from tests.preflight_bugs.house import SYSTEM, alarms, house, pairs, sentence, tokenizer_of


@pytest.mark.parametrize("kind", ["chat", "plain", "t5"])
def test_a_clean_setup_raises_no_alarm(tmp_path, kind):
    assert alarms(house(tmp_path, kind).subject()) == {}


@pytest.mark.parametrize("train_on", ["assistant", "all"])
def test_training_on_more_than_the_answer_is_no_bug_when_the_recipe_says_so(tmp_path, train_on):
    assert alarms(house(tmp_path, "chat", data={"train_on": train_on}).subject()) == {}


def test_virtual_tokens_before_the_rows_are_no_bug(tmp_path):
    built = house(tmp_path, "plain", train={"method": {"name": "prompt", "tokens": 5}})
    assert alarms(built.subject(built.job("prompt"))) == {}


@pytest.mark.parametrize("kind", ["plain", "t5"])
def test_running_text_raises_no_alarm(tmp_path, kind):
    rows = [{"text": f"{row['prompt']} {row['completion']}"} for row in pairs()]
    built = house(tmp_path, kind, rows=rows, train={"objective": "text"})
    assert alarms(built.subject()) == {}


def test_every_finding_says_what_was_looked_at(tmp_path):
    assert all(finding.detail for finding in examine(house(tmp_path, "chat").subject()).values())


def talk_with_a_tool(row: int, last: bool) -> dict[str, Any]:
    """A question and a call, which is the last word or is followed by the result and an answer of weight 1."""
    words = sentence(20 * row, 5)
    call = {"function": {"name": "look_up", "arguments": json.dumps({"words": words})}}
    messages = [
        {"role": "user", "content": f"look up {words}"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": sentence(20 * row + 1, 5)},
        {"role": "assistant", "content": sentence(20 * row + 2, 5), "weight": 1},
    ]
    tools = [{"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
    return {"messages": messages[: 2 if last else 4], "tools": tools, "system": SYSTEM}


@pytest.mark.parametrize("train_on", ["answer", "assistant", "all"])
@pytest.mark.parametrize("last", [True, False])
def test_tools_raise_no_alarm(tmp_path, train_on, last):
    tokenizer = tokenizer_of("chat")
    tokenizer.chat_template = QWEN
    rows = [talk_with_a_tool(row, last) for row in range(24)]
    data = {"train_on": train_on, "near_duplicates": "off"}
    assert alarms(house(tmp_path, "chat", rows=rows, tokenizer=tokenizer, data=data).subject()) == {}


def weighed(row: int) -> dict[str, Any]:
    """Two exchanges, the first answer with the weight 0."""
    texts = [sentence(10 * row + i, 5) for i in range(4)]
    messages = [{"role": role, "content": text} for role, text in zip(("user", "assistant") * 2, texts, strict=True)]
    messages[1]["weight"] = 0
    return {"messages": messages}


@pytest.mark.parametrize("train_on", ["answer", "assistant"])
def test_an_answer_of_weight_0_is_not_to_be_trained(tmp_path, train_on):
    built = house(tmp_path, "chat", rows=[weighed(row) for row in range(24)], data={"train_on": train_on})
    assert alarms(built.subject()) == {}
    if train_on == "assistant":
        own = built.subject()
        without = replace(own, rows=[replace(row, record=_unweighed(row.record)) for row in own.rows])
        assert alarms(without)["answer-truncated"] == "error", "the weight is what makes it right"


def _unweighed(record: Conversation) -> Conversation:
    return replace(record, messages=tuple(replace(message, weight=None) for message in record.messages))
