"""Conversations with tools and weights through the stage: what is trained, and where every row has gone."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from luthier.core.errors import UserError
from luthier.core.shards import IGNORED
from tests.data.conftest import Stage, make_base, write_jsonl

WEATHER = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("chat"), tools=True)


def talk(number: int, **last: Any) -> dict[str, Any]:
    """A question with an answer, and one more of each."""
    turns = [
        ("user", f"q{number}"),
        ("assistant", f"first {number}"),
        ("user", "and?"),
        ("assistant", f"last {number}"),
    ]
    messages: list[dict[str, Any]] = [{"role": role, "content": content} for role, content in turns]
    messages[-1] |= last
    return {"messages": messages}


def with_tools(number: int, arguments: Any = '{"city": "Rom"}', name: str = "weather") -> dict[str, Any]:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": arguments}}
    tool = json.loads(json.dumps(WEATHER).replace("weather", name))
    messages = [
        {"role": "user", "content": f"weather {number}?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "sun"},
        {"role": "assistant", "content": f"sun {number}"},
    ]
    return {"messages": messages, "tools": [tool]}


def trained(done: Stage, row: int) -> str:
    """The trained characters of a row: the tokenizer has one token a character."""
    labels = done.shard()[row].labels
    tokenizer = AutoTokenizer.from_pretrained(done.base)
    return tokenizer.decode(labels[labels != IGNORED])


def test_weights_say_which_answers_are_trained(stage, tmp_path):
    rows = [talk(1), talk(2, weight=1), talk(3, weight=0), talk(4)]
    rows[3]["messages"][1]["weight"] = 0
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    each = stage(sources=str(path), train_on="assistant")
    said = [trained(each, row) for row in range(4)]
    assert said == ["first 1</s>last 1</s>", "first 2</s>last 2</s>", "first 3</s>", "last 4</s>"]
    assert [len(row["messages"]) for row in each.rows()] == [4, 4, 2, 4]
    last = stage(sources=str(path))
    assert [trained(last, row) for row in range(4)] == ["last 1</s>", "last 2</s>", "first 3</s>", "last 4</s>"]


def test_a_weight_against_the_recipe_is_rejected_with_the_way_out(stage, tmp_path):
    rows = [talk(1), talk(2)]
    rows[1]["messages"][1]["weight"] = 1
    path = write_jsonl(tmp_path / "a.jsonl", rows)
    assert "write train_on: assistant" in stage(sources=str(path)).rejected[0]["reason"]
    with pytest.raises(UserError, match=r"1 of 2 rows cannot be used .*a\.jsonl row 2: an answer before the last"):
        stage(sources=str(path), max_rejected=0.1)
    assert stage(sources=str(path), train_on="assistant").counts.rejected == 0


def test_tools_are_seen_by_the_model_and_calls_are_trained(stage, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [with_tools(1)])
    done = stage(sources=str(path), train_on="assistant")
    given = done.card["splits"]["train"]["samples"][0]["input"]
    assert given.startswith(f"<s>[tool]{json.dumps(WEATHER)}[user]weather 1?[assistant]")
    assert trained(done, 0) == '[call]{"name": "weather", "arguments": {"city": "Rom"}}</s>sun 1</s>'


def test_other_tools_or_other_arguments_make_another_row(stage, tmp_path):
    rows = [with_tools(1), with_tools(1), with_tools(1, name="rain"), with_tools(1, '{"city": "Ulm"}')]
    done = stage(sources=str(write_jsonl(tmp_path / "a.jsonl", rows)), near_duplicates="off")
    assert done.counts.removed == {"duplicates": 1} and [row["row"] for row in done.removed] == [2]


def test_a_model_that_cannot_write_tools_rejects_their_rows_with_the_reason(stage, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [with_tools(1), talk(2)])
    for on, reason in (
        (make_base(tmp_path / "chat", chat=True), "the chat template does not write tools"),
        (make_base(tmp_path / "plain"), "plain text has no way to write tools"),
        (make_base(tmp_path / "t5", encoder_decoder=True), "plain text has no way to write tools"),
    ):
        done = stage(sources=str(path), on=on)
        assert done.counts.to_json() == {"in": 2, "kept": 1, "rejected": 1, "removed": {}}
        assert done.rejected[0]["row"] == 1 and reason in done.rejected[0]["reason"]


FATES = {
    "kept": lambda i: talk(i),
    "tools": lambda i: with_tools(i),
    "cut": lambda i: talk(i, weight=0),
    "half": lambda i: with_tools(i, '{"city": "Rom"'),
    "unasked": lambda i: {"messages": with_tools(i)["messages"][2:]},
    "unweighed": lambda i: talk(i, weight=2),
    "unnamed": lambda i: with_tools(i) | {"tools": [{}]},
    "long": lambda i: talk(i * 10**400),
    "copy": lambda i: talk(0),
}
REASONS = {
    "half": "message 2: the arguments of weather cannot be read as JSON",
    "unasked": "message 1 is a tool's",
    "unweighed": "message 4 has the weight 2",
    "unnamed": "tool 1 is not",
}


@pytest.mark.parametrize("seed", range(5))
def test_every_row_is_accounted_for(stage, tmp_path, seed):
    kinds = random.Random(seed).choices(list(FATES), k=60)
    rows = [talk(0), *(FATES[kind](i) for i, kind in enumerate(kinds, 1))]
    done = stage(context=400, sources=str(write_jsonl(tmp_path / "a.jsonl", rows)))
    counts, expected = done.counts, Counter(kinds)
    assert counts.total == 61 == counts.kept + counts.rejected + sum(counts.removed.values())
    assert counts.removed.get("duplicates", 0) == expected["copy"]
    assert counts.removed.get("too_long", 0) == expected["long"]
    found = [(row["row"], row["reason"]) for row in done.rejected]
    assert [row for row, _ in found] == [i for i, kind in enumerate(kinds, 2) if kind in REASONS]
    assert all(REASONS[kinds[row - 2]] in reason for row, reason in found)
