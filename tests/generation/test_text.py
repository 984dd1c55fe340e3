"""Streamed text: whole characters, nothing of a stop string, and in the end all that the tokenizer says."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from luthier.generation.text import BROKEN, Stream
from luthier.models.tokenizers import load_tokenizer
from luthier.recipe.schema import Model
from tests.chat.small import bytes_tokenizer

BYTES = bytes_tokenizer()
TEXT = "naïve 🙂👩‍👩‍👧 कि 日本 e\u0301 \n\tend"


def llama_like() -> PreTrainedTokenizerFast:
    """Words that begin with ▁, and bytes for what is no word: the first word's space is dropped."""
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁a", "▁b", "c", "▁"]
    tokenizer = Tokenizer(
        models.BPE({word: i for i, word in enumerate(words)}, [], unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>")


LLAMA = llama_like()


def pieces(tokenizer, tokens, stop=()) -> list[str]:
    """What comes after each token, and at the end; nothing more once a stop string was there."""
    stream = Stream(tokenizer, stop)
    said = []
    for token in tokens:
        said.append(stream.add(token))
        if stream.stopped:
            return said
    return [*said, stream.end()]


@pytest.mark.parametrize("tokenizer", [BYTES, load_tokenizer(Model(base="builtin:t5"))], ids=["bytes", "t5"])
def test_pieces_make_up_the_text_and_split_no_character(tokenizer):
    tokens = tokenizer.encode(TEXT, add_special_tokens=False)
    said = pieces(tokenizer, tokens)
    assert "".join(said) == tokenizer.decode(tokens)
    assert BROKEN not in "".join(said) and sum(map(bool, said)) > 10


def test_a_character_comes_with_its_last_byte():
    assert pieces(BYTES, BYTES.encode("a€b")) == ["a", "", "", "€", "b", ""]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 255), max_size=40))
def test_any_bytes_come_out_as_the_tokenizer_says_them(tokens):
    assert "".join(pieces(BYTES, tokens)) == BYTES.decode(tokens)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.integers(257, 260), st.sampled_from([b + 1 for b in "é€x".encode()])), max_size=20))
def test_words_with_spaces_and_bytes_between(tokens):
    whole = LLAMA.decode(tokens)
    said = "".join(pieces(LLAMA, tokens))
    assert said == whole or BROKEN in whole  # bytes that never become a character


def test_what_is_cut_off_in_the_middle_of_a_character_is_said_in_the_end():
    tokens = BYTES.encode("a€")[:-1]
    assert pieces(BYTES, tokens) == ["a", "", "", BROKEN]


def test_special_tokens_say_nothing():
    tokens = [*BYTES.encode("a"), BYTES.bos_token_id, *BYTES.encode("b")]
    assert pieces(BYTES, tokens) == ["a", "", "b", ""]


@settings(max_examples=300, deadline=None)
@given(st.text("ab.", max_size=30), st.lists(st.text("ab.", min_size=1, max_size=4), min_size=1, max_size=3))
def test_text_ends_where_the_first_stop_string_begins(text, stop):
    said = pieces(BYTES, BYTES.encode(text), tuple(stop))
    # the earliest end of a stop string decides: what comes later has not been generated
    ends = [text.find(s) + len(s) for s in stop if s in text]
    seen = text[: min(ends)] if ends else text
    starts = [seen.find(s) for s in stop if s in seen]
    assert "".join(said) == (seen[: min(starts)] if starts else text)


def test_what_may_become_a_stop_string_is_held_back_and_let_go():
    assert pieces(BYTES, BYTES.encode("a.b.."), ("..!", ".c")) == ["a", "", ".b", "", "", ".."]
    assert pieces(BYTES, BYTES.encode("ab\n\nQ: more"), ("\n\nQ:",)) == ["a", "b", "", "", "", ""]
