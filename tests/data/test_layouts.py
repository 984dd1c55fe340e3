"""Layouts are found from columns, said aloud, and rows that do not fit are rejected with the reason."""

from __future__ import annotations

from typing import Any

import pytest

from luthier.chat.prompt_format import parse
from luthier.core.errors import UserError
from luthier.core.records import Conversation, Message, Origin, PromptCompletion, Text
from luthier.data.convert import Unusable, to_record
from luthier.data.layouts import check_columns, view_of
from luthier.data.readers import Row
from luthier.recipe.schema import Data

ORIGIN = Origin("data", "a.jsonl", 1)
USER, ANSWER = {"role": "user", "content": "hello"}, {"role": "assistant", "content": "good day"}


def record(values: dict[str, Any], seen: list[str] | None = None, **data: Any) -> Any:
    view = view_of(Data(sources="x", **data), dict.fromkeys(seen or []) | values, "a.jsonl")
    return to_record(Row(ORIGIN, values), view)


def rejected(values: dict[str, Any], **data: Any) -> str:
    with pytest.raises(Unusable) as caught:
        record(values, **data)
    return str(caught.value)


@pytest.mark.parametrize(
    ("columns", "layout"),
    [
        (["messages", "text"], "messages"),
        (["prompt", "completion"], "prompt-completion"),
        (["instruction", "input", "output"], "alpaca"),
        (["id", "text"], "text"),
        (["question", "answer"], "prompt-completion"),
        (["dialogue", "summary", "topic"], "prompt-completion"),
    ],
)
def test_layouts_are_detected(columns, layout):
    assert view_of(Data(sources="x"), dict.fromkeys(columns), "a.jsonl").layout == layout


def test_prompt_and_completion():
    found = record({"question": "2+2?", "answer": "4", "level": 1, "tags": ["a"], "note": None})
    fields = {"question": "2+2?", "answer": "4", "level": "1", "note": ""}
    assert found == PromptCompletion("2+2?", "4", ORIGIN, fields=fields)


def test_columns_are_mapped_and_luthiers_own_names_serve_where_a_source_has_those():
    columns = {"prompt": "q", "completion": "a"}
    assert record({"q": "1", "a": "2"}, columns=columns).completion == "2"
    assert record({"prompt": "1", "completion": "2"}, columns=columns).completion == "2"


def test_a_template_makes_the_prompt_from_any_columns():
    values = {"title": "T", "body": "B", "summary": "S", "year": 1999}
    found = record(values, columns={"completion": "summary"}, prompt="{{{title}}} {year}: {body}\n=>")
    assert found.prompt == "{T} 1999: B\n=>"
    found = record(values, columns={"prompt": "body", "completion": "summary"}, prompt="Shorten: {prompt}")
    assert found.prompt == "Shorten: B"


def test_alpaca():
    values = {"instruction": "Add", "input": "1 2", "output": "3"}
    assert record(values).prompt == "Add\n\n1 2"
    assert record(values | {"input": ""}).prompt == "Add"
    assert record(values, prompt="### {instruction} | {input}").prompt == "### Add | 1 2"
    seen = ["instruction", "input", "output"]
    assert record({"instruction": "Add", "output": "3"}, seen=seen).prompt == "Add"
    with_system = record(values | {"system": "Be brief."})
    assert [m.role for m in with_system.messages] == ["system", "user", "assistant"]
    talk = record(values | {"history": [["a", "b"], ["c", "d"]]})
    assert [m.content for m in talk.messages] == ["a", "b", "c", "d", "Add\n\n1 2", "3"]
    assert record(values | {"history": [], "system": "", "tools": ""}).prompt == "Add\n\n1 2"
    assert "turn 1 is not [prompt, answer]" in rejected(values | {"history": [["a"]]})
    assert "the history holds str" in rejected(values | {"history": "a"})


def test_messages():
    found = record({"messages": [{"role": "system", "content": "s"}, USER, ANSWER, USER, ANSWER]})
    assert isinstance(found, Conversation) and len(found.messages) == 5
    parts = [{"type": "text", "text": "good "}, {"type": "text", "text": "day"}]
    found = record({"messages": [USER, {"role": "assistant", "content": parts, "name": None}]})
    assert found.messages[-1] == Message("assistant", "good day")


FROM = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "good day"}]


@pytest.mark.parametrize(
    ("values", "layout"),
    [
        ({"conversations": FROM}, "sharegpt"),
        ({"messages": FROM}, "sharegpt"),
        ({"conversations": [USER, ANSWER]}, "messages"),
        ({"conversation": [USER, ANSWER], "prompt": "p", "completion": "c"}, "messages"),
        ({"conversation": "all of it", "prompt": "p", "completion": "c"}, "prompt-completion"),
    ],
)
def test_turns_are_told_by_their_keys_whatever_their_column_is_called(values, layout):
    assert view_of(Data(sources="x"), values, "a.jsonl").layout == layout


def test_sharegpt():
    found = record({"conversations": [{"from": "system", "value": "s"}, *FROM]})
    assert [(m.role, m.content) for m in found.messages] == [
        ("system", "s"),
        ("user", "hello"),
        ("assistant", "good day"),
    ]
    variant = [{"from": "user", "value": "hello"}, {"from": "assistant", "value": "good day"}]
    mapped = record({"chat": variant}, columns={"messages": "chat"})
    assert mapped == record({"conversations": FROM}) == record({"messages": [USER, ANSWER]})


def test_a_row_may_have_its_system_message_in_a_column():
    assert record({"conversations": FROM, "system": "s"}).messages[0] == Message("system", "s")
    assert len(record({"conversations": FROM, "system": ""}).messages) == 2
    own = [{"from": "system", "value": "s"}, *FROM]
    assert len(record({"conversations": own, "system": "s"}).messages) == 3
    assert "another one in 'system': keep one" in rejected({"conversations": own, "system": "t"})


def test_text():
    assert record({"text": "once"}) == Text("once", ORIGIN)
    assert rejected({"text": " \n"}) == "empty text"


def test_the_answers_after_the_first_are_further_references():
    values = {"d": "x", "s1": "one", "s2": "two", "s3": ""}
    found = record(values, columns={"prompt": "d", "completion": "s1+s2+s3"})
    assert (found.completion, found.references) == ("one", ("two",))
    listed = record({"prompt": "x", "completion": ["one", "two"]})
    assert (listed.completion, listed.references) == ("one", ("two",))
    single = record({"prompt": "x", "completion": "one"})
    assert (single.completion, single.references) == ("one", ())


def test_numbered_references_stand_in_for_a_column_that_is_absent():
    columns = {"prompt": "d", "completion": "s"}
    view = view_of(Data(sources="x", columns=columns), dict.fromkeys(["d", "s10", "s2", "s1", "stem"]), "test.jsonl")
    assert view.columns["completion"] == ("s1", "s2", "s10")
    assert "s1 + s2 + s10 as completion" in view.why


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"prompt": "x", "completion": " \n"}, "empty answer: nothing in completion"),
        ({"prompt": "x", "completion": None}, "empty answer"),
        ({"prompt": "x", "completion": []}, "empty answer"),
        ({"prompt": "x", "completion": 3}, "column 'completion' holds int, not text"),
        ({"prompt": ["x"], "completion": "y"}, "column 'prompt' holds list, not text"),
        ({"prompt": "", "completion": "y"}, "empty prompt: nothing in prompt"),
        ({"messages": "hello"}, "not a list"),
        ({"messages": []}, "not a list"),
        ({"messages": [USER, {"role": "assistant", "content": ""}]}, "empty answer"),
        ({"messages": [USER]}, "ends with the user's message"),
        ({"messages": [ANSWER]}, "no user's message"),
        ({"messages": [USER, {"role": "bot", "content": "x"}]}, "message 2 has the unknown role 'bot'"),
        ({"messages": [USER, {"role": "system", "content": "x"}, ANSWER]}, "a system message after the first"),
        ({"messages": [USER, {"role": "assistant", "content": None}]}, "message 2 has no text"),
        ({"messages": [USER, {"role": "assistant", "content": [{"type": "image"}]}]}, "a part that is not"),
        ({"messages": ["hello", ANSWER]}, "message 1 is not an object"),
        ({"messages": [USER, ANSWER], "tools": [{}]}, "tool 1 is not"),
        ({"messages": [USER, ANSWER], "system": ["s"]}, "column 'system' holds list, not text"),
    ],
)
def test_rows_that_can_be_no_record(values, reason):
    assert reason in rejected(values)


def test_a_row_without_a_column_that_others_have():
    view = view_of(Data(sources="x"), dict.fromkeys(["prompt", "completion"]), "a.jsonl")
    with pytest.raises(Unusable, match="no column 'completion'"):
        to_record(Row(ORIGIN, {"prompt": "x"}), view)


@pytest.mark.parametrize(
    ("data", "columns", "sentence"),
    [
        ({}, ["frage", "antwort"], "no layout fits the columns frage, antwort: map yours in data.columns"),
        ({"layout": "alpaca"}, ["prompt"], "the layout alpaca needs the column 'instruction'"),
        ({"columns": {"prompt": "dialog"}}, ["dialogue", "x"], "no column 'dialog': did you mean 'dialogue'"),
        ({"prompt": "{titel}"}, ["title", "completion"], "no column 'titel': did you mean 'title'"),
        ({"prompt": "{a}: {completion}"}, ["a", "completion"], "holds the answer's own column 'completion'"),
        ({"prompt": "{text}"}, ["text"], "data.prompt has no effect on the layout text"),
        ({"prompt": "a {b"}, ["b", "completion"], "a single '{' at character 3"),
        ({"prompt": "a b}"}, ["b", "completion"], "a single '}' at character 4"),
        ({"prompt": "Summarise."}, ["completion", "b"], "names no column: every row would have the same prompt; put"),
    ],
)
def test_layouts_that_do_not_fit(data, columns, sentence):
    with pytest.raises(UserError) as caught:
        view_of(Data(sources="x", **data), dict.fromkeys(columns), "a.jsonl")
    assert sentence in str(caught.value)


def test_unknown_names_in_columns():
    with pytest.raises(UserError, match="Luthier reads no column 'promt': did you mean 'prompt'"):
        check_columns(Data(sources="x", columns={"promt": "a"}))


def test_templates_are_only_filled_in():
    template = parse("{a} {{b}} {a.__class__} }}")
    assert template.columns == ("a", "a.__class__")
    assert template.fill({"a": "{b}", "a.__class__": "-"}) == "{b} {b} - }"
