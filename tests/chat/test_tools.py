"""Tools reach the chat template in the form that it can write, or the row is refused; weights say what is trained."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from luthier.chat.template import template_for
from luthier.chat.toolforms import CallForm
from luthier.core.errors import UserError
from luthier.core.records import Conversation, Message, ToolCall, from_json, record_id, to_json
from luthier.recipe.schema import Data
from tests.chat.small import (
    CHATML,
    DEEPSEEK,
    LLAMA3,
    LLAMA31,
    MISTRAL,
    ORIGIN,
    QWEN,
    WEATHER,
    bytes_tokenizer,
    masked,
    talk,
    tool_talk,
)

TOOL = json.dumps(WEATHER)
ARGUMENTS = '{"city": "Rom", "days": 2}'


def template(source: str | None, encoder_decoder: bool = False, **settings):
    tokenizer = bytes_tokenizer(source)
    return tokenizer, template_for(tokenizer, Data(sources="x", **settings), encoder_decoder)


QWEN_TEXT = (
    f"<|im_start|>system\n{TOOL}<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n"
    f'«<call>{{"name": "weather", "arguments": {ARGUMENTS}}}</call><|im_end|>»\n'
    '<|im_start|>user\n<result>{"sun": true}</result><|im_end|>\n<|im_start|>assistant\n⟦b<|im_end|>⟧'
)
LLAMA_TEXT = (
    f"<s>{TOOL}\n<|start_header_id|>user<|end_header_id|>\n\na<|eot_id|>"
    f'<|start_header_id|>assistant<|end_header_id|>\n\n«{{"name": "weather", "parameters": {ARGUMENTS}}}<|eot_id|>»'
    '<|start_header_id|>ipython<|end_header_id|>\n\n"{\\"sun\\": true}"<|eot_id|>'
    "<|start_header_id|>assistant<|end_header_id|>\n\n⟦b<|eot_id|>⟧"
)
MISTRAL_TEXT = (
    f"<s>[TOOLS][{TOOL}][/TOOLS][INST] a[/INST]"
    f'«[CALLS][{{"name": "weather", "arguments": {ARGUMENTS}, "id": "call00001"}}]</s>»'
    '[RESULT]{"content": "{\\"sun\\": true}", "call_id": "call00001"}[/RESULT]⟦ b</s>⟧'
)
DEEPSEEK_TEXT = (
    f"<s>[tools][{TOOL}]User:aAssistant:«<call>weather\n{ARGUMENTS}</call></s>»"
    '<result>{"sun": true}</result>Assistant:⟦b</s>⟧'
)


@pytest.mark.parametrize("train_on", ["answer", "assistant"])
@pytest.mark.parametrize(
    ("source", "written"),
    [(QWEN, QWEN_TEXT), (LLAMA31, LLAMA_TEXT), (MISTRAL, MISTRAL_TEXT), (DEEPSEEK, DEEPSEEK_TEXT)],
)
def test_tools_calls_and_results_are_written_as_each_template_does(source, written, train_on):
    tokenizer, made = template(source, train_on=train_on)
    marks = ("⟦", "⟧") if train_on == "assistant" else ("", "")
    assert masked(tokenizer, made.render(tool_talk())) == written.replace("«", marks[0]).replace("»", marks[1])


def test_the_prompt_is_what_a_server_sends():
    tokenizer, made = template(QWEN)
    call = {"type": "function", "function": {"name": "weather", "arguments": json.loads(ARGUMENTS)}}
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "name": "weather", "content": '{"sun": true}'},
    ]
    sent = tokenizer.apply_chat_template(messages, tools=[WEATHER], add_generation_prompt=True, return_dict=False)
    assert made.prompt_ids(tool_talk()) == sent


@pytest.mark.parametrize("source", [QWEN, LLAMA31, MISTRAL])
def test_a_call_can_be_the_answer_and_ends_in_the_stop_token(source):
    tokenizer, made = template(source)
    record = tool_talk()
    example = made.render(replace(record, messages=record.messages[:2]))
    said = masked(tokenizer, example).partition("⟦")[2]
    assert ARGUMENTS in said and said.endswith(tokenizer.decode([made.stop]) + "⟧")


@pytest.mark.parametrize(
    ("source", "form"),
    [(QWEN, CallForm()), (DEEPSEEK, CallForm(empty=True, as_text=True)), (LLAMA3, None)],
)
def test_the_form_of_calls_is_found_by_trying(source, form):
    assert template(source)[1].renderer._call_form == form


@pytest.mark.parametrize("arguments", ["{{ c.function.arguments }}", "{{ c.function.arguments ~ '' }}"])
def test_arguments_are_never_written_as_python_shows_them(arguments):
    source = CHATML.replace(
        "{{ m.content }}", "{{ m.content }}{% for c in m.tool_calls %}" + arguments + "{% endfor %}"
    )
    tokenizer, made = template(source)
    record = replace(tool_talk(), tools=())
    assert made.renderer._call_form.as_text
    assert ARGUMENTS in tokenizer.decode(made.render(record).input_ids)


def test_a_template_without_tools_refuses_the_row():
    with pytest.raises(UserError, match="does not write tools, which the row has: take a model whose template does"):
        template(CHATML)[1].render(tool_talk())
    with pytest.raises(UserError, match="does not write calls of tools"):
        template(CHATML)[1].render(replace(tool_talk(), tools=()))


@pytest.mark.parametrize("settings", [{"source": None}, {"source": QWEN, "chat": False}])
@pytest.mark.parametrize("encoder_decoder", [False, True])
def test_plain_text_has_no_tools(settings, encoder_decoder):
    record = tool_talk()
    for one in (record, replace(record, tools=()), Conversation(talk("a", "b").messages, ORIGIN, tools=(WEATHER,))):
        with pytest.raises(UserError, match="plain text has no way to write tools"):
            template(**settings, encoder_decoder=encoder_decoder)[1].render(one)


def test_what_a_template_refuses_is_said():
    two = Message("assistant", "", calls=(ToolCall("weather", {}), ToolCall("weather", {})))
    record = Conversation((Message("user", "a"), two), ORIGIN, tools=(WEATHER,))
    with pytest.raises(UserError, match=r"refuses the roles user, assistant \(only single calls\)"):
        template(LLAMA31)[1].render(record)


def test_a_result_that_is_dropped_is_said():
    source = QWEN.replace("<result>{{ m.content }}</result>", "<result></result>")
    with pytest.raises(UserError, match="drops the tool message"):
        template(source)[1].render(tool_talk())


def test_words_beside_a_call_are_written_or_missed():
    record = tool_talk()
    words = replace(record.messages[1], content="Let me see.")
    both = replace(record, messages=(record.messages[0], words, *record.messages[2:]))
    tokenizer, made = template(QWEN)
    assert "assistant\nLet me see.<call>" in masked(tokenizer, made.render(both))
    with pytest.raises(UserError, match="drops what a message says beside its calls: write the call in a message of"):
        template(LLAMA31)[1].render(both)


WEIGHED = tuple(replace(m, weight={"b": 0, "d": 1}.get(m.content)) for m in talk(*"abcdef").messages)


@pytest.mark.parametrize(
    ("source", "train_on", "expected"),
    [
        (
            CHATML,
            "assistant",
            "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\nb<|im_end|>\n<|im_start|>user\nc<|im_end|>\n"
            "<|im_start|>assistant\n⟦d<|im_end|>⟧\n<|im_start|>user\ne<|im_end|>\n<|im_start|>assistant\n⟦f<|im_end|>⟧",
        ),
        (
            CHATML,
            "all",
            "<|im_start|>⟦user\na<|im_end|>\n<|im_start|>assistant\n⟧b<|im_end|>⟦\n<|im_start|>user\nc<|im_end|>\n"
            "<|im_start|>assistant\nd<|im_end|>\n<|im_start|>user\ne<|im_end|>\n<|im_start|>assistant\nf<|im_end|>⟧",
        ),
        (
            None,
            "assistant",
            "User: a\nAssistant: b</s>\nUser: c\nAssistant:⟦ d</s>⟧\nUser: e\nAssistant:⟦ f</s>⟧",
        ),
        (
            None,
            "all",
            "U⟦ser: a\nAssistant:⟧ b</s>⟦\nUser: c\nAssistant: d</s>\nUser: e\nAssistant: f</s>⟧",
        ),
    ],
)
def test_a_turn_of_weight_0_is_not_trained(source, train_on, expected):
    tokenizer, made = template(source, train_on=train_on)
    assert masked(tokenizer, made.render(Conversation(WEIGHED, ORIGIN))) == expected


@pytest.mark.parametrize("source", [CHATML, None])
def test_a_weight_that_the_recipe_would_overrule_is_refused(source):
    made = template(source)[1]
    with pytest.raises(UserError, match=r"the weight 1, but data\.train_on: answer trains the last one alone: write"):
        made.render(Conversation(WEIGHED, ORIGIN))
    without = tuple(replace(m, weight=0 if m.weight == 0 else None) for m in WEIGHED)
    plain = made.render(Conversation(tuple(replace(m, weight=None) for m in WEIGHED), ORIGIN))
    assert (made.render(Conversation(without, ORIGIN)).labels == plain.labels).all()


def test_records_with_tools_come_back_from_json():
    for record in (tool_talk(weight=1), Conversation(WEIGHED, ORIGIN), talk("a", "b")):
        assert from_json(json.loads(json.dumps(to_json(record)))) == record
    ids = [tool_talk(), tool_talk(weight=1), replace(tool_talk(), tools=())]
    assert len({record_id(record) for record in ids}) == 3
    plain = to_json(talk("a", "b"))
    assert plain["messages"][0] == {"role": "user", "content": "a"} and "tools" not in plain
