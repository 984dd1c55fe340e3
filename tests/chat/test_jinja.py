"""Chat templates: exact masks, the template's own stop token, and the prompt that a server would send."""

from __future__ import annotations

import pytest

from luthier.chat.template import template_for
from luthier.core.errors import UserError
from luthier.core.shards import IGNORED
from luthier.models.tokenizers import add_tokens, read_tokenizer
from luthier.recipe.schema import Data
from tests.chat.small import CHATML, LLAMA2, LLAMA3, MARKS, bytes_tokenizer, masked, pair, talk


def template(source: str, **settings):
    tokenizer = bytes_tokenizer(source)
    data = Data(sources={"a": {"source": "a.jsonl"}}, **settings)
    return tokenizer, template_for(tokenizer, data, encoder_decoder=False)


ONE = talk("a", "b")
TWO = talk("a", "b", "c", "d")
CASES = [
    (CHATML, {}, ONE, "<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n⟦b<|im_end|>⟧"),
    (
        CHATML,
        {"train_on": "assistant", "system": "S"},
        TWO,
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\na<|im_end|>\n<|im_start|>assistant\n⟦b<|im_end|>⟧\n"
        "<|im_start|>user\nc<|im_end|>\n<|im_start|>assistant\n⟦d<|im_end|>⟧",
    ),
    (LLAMA2, {}, ONE, "<s>[INST] a [/INST]⟦ b </s>⟧"),
    (LLAMA2, {}, pair("a", "b"), "<s>[INST] a [/INST]⟦ b </s>⟧"),
    (LLAMA2, {"system": "S"}, pair("a", "b"), "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\na [/INST]⟦ b </s>⟧"),
    (LLAMA2, {"train_on": "assistant"}, TWO, "<s>[INST] a [/INST]⟦ b </s>⟧<s>[INST] c [/INST]⟦ d </s>⟧"),
    (LLAMA2, {}, TWO, "<s>[INST] a [/INST] b </s><s>[INST] c [/INST]⟦ d </s>⟧"),
    (LLAMA2, {"train_on": "all"}, ONE, "<s>⟦[INST] a [/INST] b </s>⟧"),
    (
        LLAMA3,
        {"train_on": "assistant"},
        TWO,
        "<s><|start_header_id|>user<|end_header_id|>\n\na<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        "⟦b<|eot_id|>⟧<|start_header_id|>user<|end_header_id|>\n\nc<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n⟦d<|eot_id|>⟧",
    ),
]


@pytest.mark.parametrize(("source", "settings", "record", "expected"), CASES)
def test_masks(source, settings, record, expected):
    tokenizer, made = template(source, **settings)
    example = made.render(record)
    assert masked(tokenizer, example) == expected
    prompt = made.prompt_ids(record)
    assert example.input_ids[: len(prompt)].tolist() == prompt


@pytest.mark.parametrize("source", [CHATML, LLAMA2, LLAMA3])
def test_the_prompt_is_what_a_server_sends(source):
    tokenizer, made = template(source)
    messages = [{"role": m.role, "content": m.content} for m in TWO.messages[:-1]]
    sent = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    assert made.prompt_ids(TWO) == sent


@pytest.mark.parametrize(
    ("source", "stops", "bos"),
    [
        (CHATML, ["<|im_end|>", "</s>"], []),
        (LLAMA2, ["</s>"], ["<s>"]),
        (LLAMA3, ["<|eot_id|>", "</s>"], ["<s>"]),
    ],
)
def test_the_turns_end_is_the_stop_token(source, stops, bos):
    tokenizer, made = template(source)
    described = made.describe()
    assert described["kind"] == "chat"
    assert described["stop_tokens"] == stops and described["bos"] == bos
    assert made.render(ONE).labels[-1] == made.stop == tokenizer.convert_tokens_to_ids(stops[0])
    assert made.prompt_ids(ONE).count(tokenizer.bos_token_id) == len(bos)


def test_a_template_without_a_stop_token_gets_the_tokenizers():
    source = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n\n{% endfor %}"
    source += "{% if add_generation_prompt %}assistant: {% endif %}"
    tokenizer, made = template(source)
    assert masked(tokenizer, made.render(ONE)) == "user: a\n\nassistant: ⟦b</s>⟧"


def test_chat_false_is_plain():
    tokenizer, made = template(CHATML, chat=False)
    assert masked(tokenizer, made.render(pair("a:", "b"))) == "a:⟦ b</s>⟧"
    assert made.fingerprint != template(CHATML)[1].fingerprint


def test_a_template_that_rewrites_its_prompt_is_refused():
    source = "{{ messages | length }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}"
    with pytest.raises(UserError, match="in another way once it is answered"):
        template(source)


def test_a_template_that_rewrites_earlier_turns_cannot_train_them():
    source = (
        "{% for m in messages %}{% if m.role == 'assistant' and not loop.last %}(...)<|im_end|>"
        "{% else %}{{ m.content }}<|im_end|>{% endif %}{% endfor %}"
    )
    tokenizer, made = template(source, train_on="assistant")
    with pytest.raises(UserError, match="train_on: answer"):
        made.render(TWO)
    assert masked(tokenizer, template(source)[1].render(TWO)) == "a<|im_end|>(...)<|im_end|>c<|im_end|>⟦d<|im_end|>⟧"


def test_a_refused_or_dropped_system_message_is_said():
    refuses = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    refuses += "{{ m.content }}<|im_end|>{% endfor %}"
    with pytest.raises(UserError, match="no system"):
        template(refuses, system="S")
    drops = "{% for m in messages if m.role != 'system' %}{{ m.content }}<|im_end|>{% endfor %}"
    with pytest.raises(UserError, match="drops the system message"):
        template(drops, system="Speak Latin.")


def test_truncation_keeps_bos_before_a_chat():
    tokenizer, made = template(LLAMA2)
    whole = "[INST] a long question [/INST]"
    cut = made.truncate(pair("a long question", "b"), 20)
    assert cut is not None
    assert masked(tokenizer, cut) == "<s>" + whole[-(20 - 1 - 4) :] + "⟦ b </s>⟧", "one BOS and four ids of answer"


@pytest.mark.data
@pytest.mark.parametrize("train_on", ["answer", "assistant"])
@pytest.mark.parametrize(
    ("folder", "source", "tail"),
    [("tokenizers/gpt2", CHATML, "\n"), ("stories260K/hf", LLAMA2, ""), ("stories260K/hf", LLAMA3, "")],
)
def test_pieces_are_what_a_real_tokenizer_makes_of_the_whole(data_folder, folder, source, tail, train_on):
    tokenizer = read_tokenizer(data_folder / folder)
    add_tokens(tokenizer, MARKS)
    tokenizer.chat_template = source
    data = Data(sources={"a": {"source": "a.jsonl"}}, train_on=train_on)
    made = template_for(tokenizer, data, encoder_decoder=False)
    record = talk("Who is #Person1#?", "A girl named Lily.", "And 日本?", "I don't know, sorry!")
    messages = [{"role": m.role, "content": m.content} for m in record.messages]
    example = made.render(record)
    whole = tokenizer.apply_chat_template(messages, return_dict=False)
    ids = example.input_ids.tolist()
    assert ids + tokenizer.encode(tail, add_special_tokens=False) == whole
    said = tokenizer.decode(example.labels[example.labels != IGNORED])
    answers = [m.content for m in record.messages if m.role == "assistant"][-2 if train_on == "assistant" else -1 :]
    end = tokenizer.convert_ids_to_tokens(made.stop)
    assert "".join(said.split()) == "".join("".join(answer.split()) + end for answer in answers)
