"""Tokenizers, loaded in half a second: `tokenizer.json` says everything, so torch is not imported for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import AddedToken, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from luthier.core.errors import UserError
from luthier.models.resolve import resolve
from luthier.recipe.schema import Model


def load_tokenizer(section: Model) -> PreTrainedTokenizerBase:
    """The base's tokenizer with `add_tokens` added and a pad token chosen."""
    tokenizer = read_tokenizer(resolve(section).folder)
    add_tokens(tokenizer, section.add_tokens)
    return tokenizer


def read_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a folder, with a pad token."""
    try:
        if (folder / "tokenizer.json").is_file():
            tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        else:  # a sentencepiece or word list that transformers must convert, which takes torch and seconds
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (ValueError, OSError, ImportError, LookupError) as error:
        raise UserError(
            f"the tokenizer in {folder} cannot be read ({error!r:.80}): save it with transformers, so "
            "that there is a tokenizer.json; a sentencepiece model alone takes `pip install sentencepiece protobuf`"
        ) from error
    choose_pad(tokenizer)
    return tokenizer


def add_tokens(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[str]) -> list[int]:
    """Add special tokens; the ids of those that were not there before."""
    known = tokenizer.get_vocab()
    new = [token for token in tokens if token not in known]
    added: list[str | AddedToken] = [AddedToken(token, special=True, normalized=False) for token in new]
    tokenizer.add_tokens(added, special_tokens=True)
    ids = tokenizer.get_vocab()
    return [ids[token] for token in new]


def choose_pad(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer without a pad token one: a special token made for it, else its end token.

    Padding is always masked by position, never by id, so that sharing the end token does no harm.
    """
    if tokenizer.pad_token is not None:
        return
    specials = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    made_for_it = next((token for token in specials if "pad" in token.lower()), None)
    tokenizer.pad_token = made_for_it or tokenizer.eos_token or tokenizer.unk_token or specials[0]
