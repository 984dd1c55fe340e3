"""The template language: parsing, slots, phrases, polish."""

from math import log2
from random import Random

import pytest

from luthier.data.builtin.choices import Choices
from luthier.data.builtin.template import Draw, parse, parse_slot, polish, split


def draw(slots: dict[str, str], seed: int = 0) -> Draw:
    return Draw(Choices(Random(seed)), {name: parse_slot(text, {}) for name, text in slots.items()})


def test_a_slot_keeps_its_value_and_has_forms() -> None:
    for seed in range(20):
        made = draw({"who": "Anna ~ she | Tom ~ he"}, seed)
        text = made.render(parse("{who}: {who'}, {who}, {who''}"))
        assert text in ("Anna: she, Anna, she", "Tom: he, Tom, he")
        assert made.choices.bits == 1  # one slot of two values, drawn once


def test_alternatives_are_drawn_anew_and_nest() -> None:
    made = draw({}, 5)
    seen = {made.render(parse("[a|b[1|2]|]")) for _ in range(200)}
    assert seen == {"a", "b1", "b2", ""}


def test_bits_of_a_template_by_hand() -> None:
    # One of 2, of 9 and of 4: 1 + log2 9 + 2 bits; a slot that is not used costs nothing.
    made = draw({"n": "1..9", "idle": "x | y"})
    made.render(parse("[a|b] {n} {n+1} [c|d|e|f]"))
    assert made.choices.bits == pytest.approx(1 + log2(9) + 2)


def test_numbers_can_be_shifted() -> None:
    made = draw({"n": "7..7"})
    assert made.render(parse("{n} {n+5} {n-2}")) == "7 12 5"


def test_two_slots_of_one_shared_list_differ() -> None:
    shared = {"name": parse_slot("Anna | Tom | Mary", {}).values}
    slots = {"a": parse_slot("@name", shared), "b": parse_slot("@name", shared)}
    for seed in range(50):
        first, second = Draw(Choices(Random(seed)), slots).render(parse("{a} {b}")).split()
        assert first != second


def test_phrases_are_called_by_name() -> None:
    phrases = {"yes": [parse("sure"), parse("of course")]}
    texts = {draw({}, seed).render(parse("<yes>!", phrases)) for seed in range(30)}
    assert texts == {"sure!", "of course!"}


@pytest.mark.parametrize("text", ["[a|b", "a|b", "a]"])
def test_a_template_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="template"):
        parse(text)


def test_split_minds_brackets() -> None:
    assert split("a [b|c] | d") == ["a [b|c]", "d"]


@pytest.mark.parametrize(
    ("rough", "fine"),
    [
        ("it is a apple. a orange.", "It is an apple. An orange."),
        ("a useful one, a hour, a 8 and a 18", "A useful one, an hour, an 8 and an 18"),
        ("wait until on Friday? yes, for on Monday.", "Wait until Friday? Yes, for Monday."),
        ('he said, "come in." then he left.', 'He said, "Come in." Then he left.'),
        ('"is it?" asked Tom.', '"Is it?" asked Tom.'),
        ('"who is it?," said Tom.', '"Who is it?" said Tom.'),
        ("#Person1#: hello", "#Person1#: Hello"),
    ],
)
def test_polish(rough: str, fine: str) -> None:
    assert polish(rough) == fine
