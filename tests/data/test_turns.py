"""Turns in the spellings of OpenAI and of ShareGPT become the same messages; what cannot is told by its number."""

from __future__ import annotations

from typing import Any

import pytest

from luthier.core.records import Message, ToolCall
from luthier.data.cells import Unusable
from luthier.data.tools import read_tools
from luthier.data.turns import OPENAI, SHAREGPT, read_turns

USER, ANSWER = {"role": "user", "content": "weather?"}, {"role": "assistant", "content": "sunny"}
CALL = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rom"}'}}
CALLS = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "20°"}
HUMAN, GPT = {"from": "human", "value": "weather?"}, {"from": "gpt", "value": "sunny"}
SCHEMA = {"name": "weather", "description": "d", "parameters": {"type": "object", "properties": {}}}


def refused(turns: Any, spelling=OPENAI) -> str:
    with pytest.raises(Unusable) as caught:
        read_turns(turns, spelling)
    return str(caught.value)


def test_openai_and_sharegpt_say_the_same():
    openai = read_turns([USER, CALLS, RESULT, ANSWER], OPENAI)
    assert openai == (
        Message("user", "weather?"),
        Message("assistant", "", calls=(ToolCall("weather", {"city": "Rom"}, "c1"),)),
        Message("tool", "20°", call_id="c1"),
        Message("assistant", "sunny"),
    )
    asked = {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Rom"}}'}
    sharegpt = read_turns([HUMAN, asked, {"from": "observation", "value": "20°"}, GPT], SHAREGPT)
    said = [(m.role, m.content, [(c.name, c.arguments) for c in m.calls]) for m in sharegpt]
    assert said == [(m.role, m.content, [(c.name, c.arguments) for c in m.calls]) for m in openai]


@pytest.mark.parametrize("arguments", ['{"city": "Rom"}', {"city": "Rom"}])
def test_arguments_are_an_object_or_its_json(arguments):
    call = {"function": {"name": "weather", "arguments": arguments}}
    (message,) = read_turns([USER, {**CALLS, "tool_calls": [call]}], OPENAI)[1:]
    assert message.calls == (ToolCall("weather", {"city": "Rom"}),)


def test_several_calls_at_once_and_a_call_that_is_the_answer():
    value = '[{"name": "a", "arguments": {}}, {"name": "b"}]'
    messages = read_turns([HUMAN, {"from": "function_call", "value": value}], SHAREGPT)
    assert messages[-1].calls == (ToolCall("a", {}), ToolCall("b", {}))
    assert messages[-1].text == '{"name": "a", "arguments": {}}\n{"name": "b", "arguments": {}}'


def test_a_developers_message_is_the_systems():
    assert read_turns([{"role": "developer", "content": "s"}, USER, ANSWER], OPENAI)[0] == Message("system", "s")


def test_weights():
    turns = [USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 1.0}, {**USER, "weight": 0}, ANSWER]
    assert [m.weight for m in read_turns(turns, OPENAI)] == [None, 0, None, 1, None, None]


def test_what_follows_the_last_answer_that_may_be_trained_is_left_out():
    turns = [USER, ANSWER, USER, {**ANSWER, "weight": 0}, USER, {**ANSWER, "weight": 0}]
    assert read_turns(turns, OPENAI) == (Message("user", "weather?"), Message("assistant", "sunny"))
    assert refused([USER, {**ANSWER, "weight": 0}]) == "every answer has the weight 0: nothing is left to learn"


@pytest.mark.parametrize(
    ("turns", "reason"),
    [
        ([USER, {**ANSWER, "weight": 0.5}], "message 2 has the weight 0.5: write 0 (not trained) or 1 (trained)"),
        ([USER, {**ANSWER, "weight": True}], "message 2 has the weight True"),
        ([{**USER, "weight": 1}, ANSWER], "message 1 has the weight 1, but only an assistant's message"),
        ([USER, {**ANSWER, "name": "x"}], "message 2 has 'name', which the role assistant does not have"),
        ([{**USER, "tool_calls": [CALL]}, ANSWER], "message 1 has 'tool_calls', which the role user does not have"),
        ([USER, {**ANSWER, "function_call": {}}], "message 2 has 'function_call', the old spelling of 'tool_calls'"),
        ([USER, {**ANSWER, "audio": "x"}], "message 2 has 'audio', which Luthier does not learn from yet"),
        ([USER, RESULT, ANSWER], "message 2 is a tool's, but no assistant's message stands before it"),
        ([USER, CALLS, {**RESULT, "tool_call_id": "c2"}, ANSWER], "message 3 answers the call 'c2'"),
        ([USER, CALLS, {**RESULT, "tool_call_id": 2}, ANSWER], "message 3 has a 'tool_call_id' that is not text"),
        ([USER, CALLS, RESULT], "ends with the tool's message"),
        ([USER, {**CALLS, "tool_calls": [{}]}], "message 2 has a call that is not"),
        ([USER, {**CALLS, "tool_calls": ["x y"]}], "message 2 has a call that is not"),
        ([USER, {**CALLS, "tool_calls": [{**CALL, "type": "code"}]}], "a call of the type 'code'"),
        ([USER, {**CALLS, "tool_calls": [{**CALL, "id": 3}]}], "a call whose id is not text"),
    ],
)
def test_turns_that_cannot_be_read(turns, reason):
    assert reason in refused(turns)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ('{"city": "Rom"', "the arguments of weather cannot be read as JSON: Expecting ',' delimiter at column 15"),
        ("[1]", "the arguments of weather are not an object of named values"),
        ({"city": float("nan")}, "holds a value that JSON has no spelling for"),
        (r'{"city": "\ud83d"}', "holds a value that JSON has no spelling for"),
        ({"city": b"Rom"}, "holds a value that JSON has no spelling for"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_arguments_that_cannot_be_read(arguments, reason):
    call = {"function": {"name": "weather", "arguments": arguments}}
    assert reason in refused([USER, {**CALLS, "tool_calls": [call]}])


def test_sharegpt_turns_that_cannot_be_read():
    assert "message 2 has no call in it" in refused([HUMAN, {"from": "function_call", "value": " "}], SHAREGPT)
    assert "message 2: the call cannot be read" in refused([HUMAN, {"from": "function_call", "value": "a"}], SHAREGPT)
    assert "unknown role 'bing' under 'from': known are system, human" in refused(
        [HUMAN, {"from": "bing", "value": "a"}], SHAREGPT
    )
    assert "unknown role None under 'from'" in refused([USER, ANSWER], SHAREGPT)


@pytest.mark.parametrize("value", [None, "", "[]", []])
def test_no_tools(value):
    assert read_tools(value) == ()


def test_tools_in_every_spelling():
    whole = {"type": "function", "function": SCHEMA}
    text = '{"name": "weather", "description": "d", "parameters": {"type": "object", "properties": {}}}'
    for value in ([whole], [SCHEMA], SCHEMA, text, f"[{text}]", [{"function": SCHEMA}]):
        assert read_tools(value) == (whole,)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("weather", "the tools cannot be read as JSON: Expecting value at column 1"),
        ([SCHEMA, {"parameters": {}}], 'tool 2 is not {"type": "function"'),
        ([{"name": 3}], "tool 1 is not"),
        (["weather"], "tool 1 is not"),
        ([{"type": "web_search", "function": SCHEMA}], "tool 1 is of the type 'web_search', not a function"),
    ],
)
def test_tools_that_cannot_be_read(value, reason):
    with pytest.raises(Unusable) as caught:
        read_tools(value)
    assert reason in str(caught.value)
