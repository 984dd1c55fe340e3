"""English and French: the pairs of the corpus, mostly asked from English to French. The item is the English text."""

from collections.abc import Iterator

from luthier.data.builtin.choices import Choices
from luthier.data.builtin.french import (
    PEOPLE,
    action_pair,
    adjective_pair,
    fixed_pair,
    is_pair,
    where_pair,
    word_pair,
)
from luthier.data.builtin.template import polish
from luthier.data.builtin.tutor.asking import ask, fresh

WEIGHTS = {word_pair: 2, fixed_pair: 1.5, adjective_pair: 2, is_pair: 2, action_pair: 3.5, where_pair: 2}
# What is not done to people: the pairs of the corpus are grammar alone.
TO_THINGS = {"buy", "buys", "want", "wants", "take", "takes", "choose", "chooses", "have", "has", "lose", "loses"}
TO_ENGLISH = 0.25
"""The share of questions whose answer is English."""

IN_FRENCH = (
    'How do you say "{0}" in French?',
    'What is "{0}" in French?',
    "Translate into French: {1}",
    "How do you say in French: {1}",
)
IN_ENGLISH = (
    'How do you say "{0}" in English?',
    'What does "{0}" mean in English?',
    "Translate into English: {1}",
)


def capital(text: str) -> str:
    """The text with a capital letter at its beginning."""
    return text[0].upper() + text[1:]


def quoted(text: str) -> str:
    """A sentence with a capital letter, words as they are."""
    return capital(text) if text[-1] in ".?" else text


def pair(c: Choices) -> tuple[str, str]:
    """English and French of one pair of the corpus in which nobody is bought or taken."""
    while True:
        english, french = c.weighted(WEIGHTS)(c)
        words = set(english.rstrip(".?").split())
        if not (words & TO_THINGS and words & PEOPLE):
            return english, french


def translation(c: Choices) -> dict:
    """One pair, asked in one of the two directions."""
    english, french = pair(c)
    english = english[0] + polish(english)[1:]
    asked, told, frames, skill = english, french, IN_FRENCH, "to-french"
    if c.maybe(TO_ENGLISH):
        asked, told, frames, skill = french, english, IN_ENGLISH, "to-english"
    wordings = [frame.format(quoted(asked), capital(asked)) for frame in frames]
    return ask(c, skill, "", wordings, capital(told)) | {"item": f"translation:{capital(english)}"}


def translation_rows(choices: Choices) -> Iterator[dict]:
    """Endless rows {question, answer, skill, item} of `tutor-translation`."""
    return fresh(choices, translation)
