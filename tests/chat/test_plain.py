"""Plain text templates: exact masks, prompts that training and inference share, text that comes back."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import AutoTokenizer

from luthier.chat.template import template_for
from luthier.core.errors import UserError
from luthier.core.records import Text
from luthier.core.shards import IGNORED
from luthier.models.tokenizers import load_tokenizer
from luthier.recipe.schema import Data, Model
from tests.chat.small import ORIGIN, bytes_tokenizer, masked, pair, talk


def data(**settings) -> Data:
    return Data(sources={"a": {"source": "a.jsonl"}}, **settings)


@pytest.mark.parametrize(
    ("settings", "record", "expected"),
    [
        ({}, pair("Say hi:", "hi"), "Say hi:⟦ hi</s>⟧"),
        ({}, pair("Say hi:\n", "hi"), "Say hi:\n⟦hi</s>⟧"),
        ({}, pair("Say hi:", "\nhi"), "Say hi:⟦\nhi</s>⟧"),
        ({}, pair("", "hi"), "h⟦i</s>⟧"),
        ({}, pair("Hi:", ""), "Hi:⟦</s>⟧"),
        ({"train_on": "all"}, pair("Hi:", "hi"), "H⟦i: hi</s>⟧"),
        ({"system": "Be brief."}, pair("Say:", "hi"), "Be brief.\n\nSay:⟦ hi</s>⟧"),
        ({}, talk("a", "b"), "User: a\nAssistant:⟦ b</s>⟧"),
        ({}, talk("a", "b", "c", "d"), "User: a\nAssistant: b</s>\nUser: c\nAssistant:⟦ d</s>⟧"),
        (
            {"train_on": "assistant"},
            talk("a", "b", "c", "d", system="S"),
            "S\n\nUser: a\nAssistant:⟦ b</s>⟧\nUser: c\nAssistant:⟦ d</s>⟧",
        ),
        ({"system": "S"}, talk("a", "b"), "S\n\nUser: a\nAssistant:⟦ b</s>⟧"),
        ({"system": "S"}, talk("a", "b", system="own"), "own\n\nUser: a\nAssistant:⟦ b</s>⟧"),
        ({}, Text("abc", ORIGIN), "a⟦bc</s>⟧"),
    ],
)
def test_masks(settings, record, expected):
    tokenizer = bytes_tokenizer()
    template = template_for(tokenizer, data(**settings), encoder_decoder=False)
    example = template.render(record)
    assert masked(tokenizer, example) == expected
    prompt = template.prompt_ids(record)
    assert example.input_ids[: len(prompt)].tolist() == prompt
    assert len(prompt) < len(example.input_ids)


def real(folder, name):
    return load_tokenizer(Model(base=str(folder / name), context=512))


@pytest.fixture
def stories(data_folder):
    return real(data_folder, "stories260K/hf")


@pytest.mark.data
def test_stop_token_is_trained_though_it_is_the_pad_token(stories):
    assert stories.pad_token_id == stories.eos_token_id == 2
    template = template_for(stories, data(), encoder_decoder=False)
    example = template.render(pair("One day\nSummary:", "Tom ran."))
    assert example.labels[-1] == template.stop == 2
    assert template.stop_ids == (2,)


@pytest.mark.data
@pytest.mark.parametrize("completion", ["Tom ran.", " Tom ran.", "\nTom", "#Person1# says hi.", "12 é 日本"])
def test_sentencepiece_spaces_do_not_double(stories, completion):
    template = template_for(stories, data(), encoder_decoder=False)
    example = template.render(pair("One day\nSummary:", completion))
    ids = example.input_ids
    assert ids[0] == 1 and (ids == 1).sum() == 1, "BOS exactly once"
    joint = "" if completion[0].isspace() else " "
    assert stories.decode(ids, skip_special_tokens=True) == "One day\nSummary:" + joint + completion
    answer = example.labels[example.labels != IGNORED]
    assert stories.decode(answer, skip_special_tokens=True).strip() == completion.strip()


@pytest.mark.data
def test_segments_are_what_the_tokenizer_makes_of_the_whole(stories):
    """Where an answer begins with a new word, cutting the text there changes no token."""
    template = template_for(stories, data(), encoder_decoder=False)
    example = template.render(pair("One day, a girl saw a dog.", "She ran home."))
    assert example.input_ids.tolist() == [*stories.encode("One day, a girl saw a dog. She ran home."), 2]


@pytest.mark.data
def test_gpt2_has_no_bos_and_keeps_its_text(data_folder):
    path = data_folder / "tokenizers" / "gpt2"
    tokenizer = AutoTokenizer.from_pretrained(path)
    template = template_for(tokenizer, data(), encoder_decoder=False)
    assert template.describe()["bos"] == []
    example = template.render(pair("Question?\n\n", "\n Ünïcode  answer"))
    assert tokenizer.decode(example.input_ids) == "Question?\n\n\n Ünïcode  answer<|endoftext|>"


@pytest.mark.data
def test_t5_reads_and_says_apart(data_folder):
    tokenizer = AutoTokenizer.from_pretrained(data_folder / "tokenizers" / "flan-t5")
    template = template_for(tokenizer, data(), encoder_decoder=True)
    record = pair("Summarise this text.", "A summary.")
    example = template.render(record)
    assert example.input_ids.tolist() == tokenizer.encode("Summarise this text.") == template.prompt_ids(record)
    assert example.labels.tolist() == tokenizer.encode("A summary.")
    assert example.labels[-1] == template.stop == 1
    running = template.render(Text("Some text.", ORIGIN))
    assert running.input_ids.tolist() == tokenizer.encode("Some text.") and len(running.labels) == 0
    with pytest.raises(UserError, match="train_on: answer"):
        template_for(tokenizer, data(train_on="all"), encoder_decoder=True)


@pytest.mark.data
def test_truncation_cuts_the_prompt_from_the_left(stories):
    template = template_for(stories, data(), encoder_decoder=False)
    record = pair("Once upon a time there was a little girl named Lily.", "She played.")
    whole = template.render(record)
    cut = template.truncate(record, len(whole.input_ids) - 5)
    assert cut is not None
    assert cut.input_ids.tolist() == [1, *whole.input_ids[6:].tolist()], "BOS stays, the next five go"
    assert cut.labels[cut.labels != IGNORED].tolist() == whole.labels[whole.labels != IGNORED].tolist()
    answer = int((whole.labels != IGNORED).sum())
    assert template.truncate(record, answer) is None, "no room for any of the prompt"
    smallest = template.truncate(record, answer + 2)
    assert smallest is not None and len(smallest.input_ids) == answer + 2


@pytest.mark.data
def test_truncation_keeps_the_end_of_an_encoders_input(data_folder):
    tokenizer = AutoTokenizer.from_pretrained(data_folder / "tokenizers" / "flan-t5")
    template = template_for(tokenizer, data(), encoder_decoder=True)
    record = pair("one two three four five six seven", "a b")
    cut = template.truncate(record, 6)
    assert cut is not None
    assert cut.input_ids.tolist() == template.prompt_ids(record)[-6:]
    assert template.truncate(pair("one", "a long answer that does not fit"), 6) is None


def test_fingerprint_follows_what_shapes_the_input():
    def fingerprint(tokenizer=None, **settings):
        return template_for(tokenizer or bytes_tokenizer(), data(**settings), False).fingerprint

    other = bytes_tokenizer()
    other.eos_token = "<|im_end|>"
    prints = [fingerprint(), fingerprint(system="S"), fingerprint(prompt="{a}"), fingerprint(other)]
    assert len(set(prints)) == 4
    assert fingerprint() == prints[0] == fingerprint(train_on="all")


def test_no_end_token_is_refused():
    tokenizer = bytes_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match="eos_token"):
        template_for(tokenizer, data(), encoder_decoder=False)


def test_labels_repeat_the_ids():
    example = template_for(bytes_tokenizer(), data(), False).render(pair("p:", "a"))
    trained = example.labels != IGNORED
    assert np.array_equal(example.labels[trained], example.input_ids[trained])
