"""The builtin tokenizer: nothing unknown, nothing lost, numbers by digit, one token a speaker."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from luthier.models.resolve import BUILTIN
from luthier.models.tokenizers import read_tokenizer

TOKENIZER = read_tokenizer(BUILTIN / "t5")


def ids(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False, verbose=False)


@settings(max_examples=300, deadline=None)
@given(st.text())
@example("#Person1#: I paid 1,234.50.\n#Person2#: Où ça ?\n\n  \t é 日本 😀\r\n\x00 ")
def test_any_text_comes_back(text):
    assert TOKENIZER.decode(ids(text)) == text
    assert TOKENIZER.unk_token_id not in ids(text)


def test_the_ids_that_config_json_names():
    assert [TOKENIZER.pad_token_id, TOKENIZER.eos_token_id, TOKENIZER.unk_token_id] == [0, 1, 2]
    assert TOKENIZER.convert_tokens_to_ids([f"<extra_id_{i}>" for i in range(32)]) == list(range(3, 35))
    assert len(TOKENIZER) == 4096
    assert TOKENIZER.encode("a") == [*ids("a"), 1]


@pytest.mark.parametrize("gap", ["", " ", "\n"])
@pytest.mark.parametrize("mark", ["#Person1#", "#Person2#", "#Person1#:", "#Person2#:"])
def test_a_speaker_is_one_token(gap, mark):
    assert len(ids(gap + mark)) == 1
    assert TOKENIZER.decode(ids(gap + mark)) == gap + mark


def test_digits_stand_alone():
    assert ids("1234") == [*ids("1"), *ids("2"), *ids("3"), *ids("4")]
    assert len(ids("1234")) == 4


def test_transformers_reads_it_alike():
    text = "#Person1#: hello 42\n#Person2#: <extra_id_0> Ünïcode"
    assert AutoTokenizer.from_pretrained(BUILTIN / "t5").encode(text) == TOKENIZER.encode(text)


def test_it_is_small():
    files: list[Path] = [BUILTIN / "t5" / name for name in ("tokenizer.json", "tokenizer_config.json")]
    assert sum(path.stat().st_size for path in files) < 300_000
