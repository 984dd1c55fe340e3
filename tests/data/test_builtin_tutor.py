"""The tutor's questions: each answer worked out again from its question, one answer a question, items, repeats."""

from __future__ import annotations

import re
from collections import defaultdict
from functools import cache
from itertools import pairwise
from random import Random

import pytest

from luthier.data.builtin import rows
from luthier.data.builtin.choices import Choices
from luthier.data.builtin.facts import TABLES
from luthier.data.builtin.french import PAIRS
from luthier.data.builtin.template import polish
from luthier.data.builtin.tutor.words import OVERLAPPING
from luthier.data.builtin.wordgames import GROUPS, OPPOSITES, PLURALS, RHYMES

SETS = ("tutor-words", "tutor-translation", "tutor-mathematics", "tutor-knowledge")
MANY = 20000


@cache
def sample(name: str) -> list[dict]:
    return list(rows(name, 3, MANY))


@pytest.mark.parametrize("name", SETS)
def test_rows_are_clean_and_the_same_for_a_seed(name: str) -> None:
    assert list(rows(name, 3, 300)) == sample(name)[:300]
    assert list(rows(name, 4, 300)) != sample(name)[:300]
    faults = re.compile(r"[{}\[\]|<>~^\t\n]|  |,,| ,|\b[Aa] [aei](?!uro)|^ | $")
    for row in sample(name):
        assert list(row) == ["question", "answer", "skill", "item"]
        french = row["skill"] in ("to-french", "to-english")
        for text in (row["question"], row["answer"]):
            assert text and not (faults.search(text) and not french), row
            assert text[0].isupper() or text[0].isdigit() or name == "tutor-words", row


@pytest.mark.parametrize("name", SETS)
def test_a_question_has_one_answer_and_one_item(name: str) -> None:
    answers, items = defaultdict(set), defaultdict(set)
    for row in sample(name):
        answers[row["question"]].add(row["answer"])
        items[row["question"]].add(row["item"])
    assert all(len(found) == 1 for found in answers.values())
    assert all(len(found) == 1 for found in items.values())


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("seed", [1, 2])
def test_few_repeats_and_many_items(name: str, seed: int) -> None:
    made = list(rows(name, seed, 2500))
    assert len({row["question"] for row in made}) > 0.95 * len(made)
    assert len({row["item"] for row in made}) > 500


# --- mathematics: the last number (or word) of the answer, worked out from the numbers of the question.
SOLVERS = [
    (r"(?:What is |How much is |Work out )?(\d+) \+ (\d+)(?: = )?[?.]", lambda a, b: a + b),
    (r"(?:What is |How much is |Work out )?(\d+) - (\d+)(?: = )?[?.]", lambda a, b: a - b),
    (r"(?:What is |How much is |Work out )?(\d+) \* (\d+)(?: = )?[?.]", lambda a, b: a * b),
    (r"(?:What is |How much is |Work out )?(\d+) / (\d+)(?: = )?[?.]", lambda a, b: a / b),
    (r"\D*(\d+), (\d+), (\d+), (\d+)(?:\?|: what comes next\?)", lambda a, b, c, d: d + (b - a)),
    (r"Which (?:is|number is) (?:more|larger), (\d+) or (\d+)\?", min),  # `50 is more than 34` ends with the smaller
    (r"Which (?:is|number is) (?:less|smaller), (\d+) or (\d+)\?", max),
    (r"(?:How much|What is the diff|By how).* (\d+) (?:than|and|smaller than) (\d+)\?", lambda a, b: abs(a - b)),
    (r"(?:What is the double of|What is twice|Double) (\d+)[?.]", lambda a: 2 * a),
    (r"(?:What is half of|How much is half of|Halve) (\d+)[?.]", lambda a: a / 2),
    (r"Is (\d+) (?:even or odd|an even or an odd number)\?", lambda a: ("even", "odd")[a % 2]),
    (r"\w+ has (\d+) \w+ and gets (\d+) more\. How many \w+ does s?he have now\?", lambda a, b: a + b),
    (r"\w+ buys (\d+) \w+ and then buys (\d+) more\. How many \w+ does s?he have\?", lambda a, b: a + b),
    (r"There are (\d+) \w+ on the left and (\d+) .* on the right\. .* together\?", lambda a, b: a + b),
    (r"\w+ has (\d+) (\w+) and gives away (\d+)\. How many \2 are left\?", lambda a, b: a - b),
    (r"\w+ has (\d+) \w+\. Then s?he sells (\d+)\. .* left\?", lambda a, b: a - b),
    (r"There are (\d+) \w+, and \w+ takes (\d+) of them\. .* left\?", lambda a, b: a - b),
    (r"(?:There are|\w+ has) (\d+) \w+ with (\d+) \w+ in each \w+\. How many .*\?", lambda a, b: a * b),
    (r"\w+ has (\d+) \w+ and puts (\d+) in each \w+\. How many .* need\?", lambda a, b: a / b),
    (r"(\d+) \w+ go into \w+, (\d+) in each \w+\. How many \w+ are there\?", lambda a, b: a / b),
    (r"\w+ is (\d+) years old, and (\w+) is (\d+) years older\. How old is \2\?", lambda a, b: a + b),
    (r"\w+ is (\d+) years old\. How old will s?he be in (\d+) years\?", lambda a, b: a + b),
    (r"(?:How many minutes are|.* takes) (\d+) hours(?:\?|\. How many minutes is that\?)", lambda a: a * 60),
    (r".* begins at (\d+) o'clock and takes (\d+) hours\. When does it end\?", lambda a, b: a + b),
    (r".* takes (\d+) hours\. It begins at (\d+) o'clock\. When is it over\?", lambda a, b: a + b),
    (r"An? \w+ costs (\d+) dollars\. How many dollars do (\d+) \w+ cost\?", lambda a, b: a * b),
    (r"An? \w+ costs (\d+) dollars\. \w+ buys (\d+) \w+\. How many dollars does .* pay\?", lambda a, b: a * b),
    (r"An? .* costs (\d+) dollars\. .* buys (\d+) .* pays with (\d+) dollars\. .*\?", lambda a, b, c: c - a * b),
    (r"\w+ has (\d+) .* gets (\d+) more\. Then .* gives away (\d+)\. .* left\?", lambda a, b, c: a + b - c),
    (r"\w+ buys (\d+) .* buys (\d+) more\. Then .* sells (\d+)\. .* left\?", lambda a, b, c: a + b - c),
]


def worked_out(question: str) -> str:
    """The one solver whose pattern is the question, on the question's numbers."""
    (solve,) = [solver for pattern, solver in SOLVERS if re.fullmatch(pattern, question)]
    value = solve(*map(int, re.findall(r"\d+", question)))
    return value if isinstance(value, str) else f"{value:g}"


def test_every_result_of_mathematics_is_right() -> None:
    skills = defaultdict(int)
    for row in sample("tutor-mathematics"):
        assert re.findall(r"\w+", row["answer"])[-1] == worked_out(row["question"]), row
        skills[row["skill"]] += 1
    assert sum(skills.values()) == MANY and min(skills.values()) > 100


def test_the_working_of_mathematics_is_right_and_uses_the_numbers_of_the_question() -> None:
    apply = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__, "/": int.__truediv__}
    for row in sample("tutor-mathematics"):
        given = {int(number) for number in re.findall(r"\d+", row["question"])} | {2, 60}
        steps = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", row["answer"])
        assert len(steps) == (2 if row["skill"] == "two-step" else "=" in row["answer"]), row
        for left, sign, right, result in steps:
            assert apply[sign](int(left), int(right)) == int(result), row
            assert int(left) in given or row["skill"] == "sequence", row
            given.add(int(result))
        if "is more than" in row["answer"] or "is smaller than" in row["answer"]:
            first, second = map(int, re.findall(r"\d+", row["answer"]))
            assert (first > second) == ("more" in row["answer"]) and {first, second} <= given, row


def test_a_sum_and_the_story_of_the_same_sum_are_one_item() -> None:
    skills = defaultdict(set)
    for row in sample("tutor-mathematics"):
        if row["item"].startswith("sum:"):
            left, sign, right = re.findall(r"\d+|[-+*/]", row["item"])
            assert eval(left + sign + right) == int(row["answer"].split(" = ")[1]), row
            assert sign not in "+*" or int(left) <= int(right), row
            skills[row["item"]].add(row["skill"])
        elif row["skill"] == "sequence":
            assert row["item"].removeprefix("sequence:") in row["question"]
    assert sum({"addition", "word-problem"} <= found for found in skills.values()) > 100
    assert sum({"multiplication", "word-problem"} <= found for found in skills.values()) > 50


# --- words
def quoted(text: str) -> list[str]:
    return re.findall(r'"([^"]+)"', text)


def rhymes(a: str, b: str) -> bool:
    return any(a in family and b in family for family in RHYMES)


def groups_of(word: str) -> set[str]:
    return {name for name, words in GROUPS.items() if word in words}


def letter_answer(row: dict) -> str:
    """The answer about the letters of the one quoted word."""
    (word,) = quoted(row["question"])
    return {
        "spelling": "-".join(letter.upper() for letter in word),
        "letters": f"{sum(letter.isalpha() for letter in word)} letters",
        "first-letter": word.upper()[0],
        "last-letter": word.upper()[-1],
        "backwards": "".join(reversed(word)),
    }[row["skill"]]


def check_letters(row: dict) -> None:
    assert row["answer"] == letter_answer(row)
    assert [row["item"].split(":")[1]] == quoted(row["question"])


def check_alphabet(row: dict) -> None:
    words = quoted(row["question"]) or row["question"].split(": ")[1].rstrip(".").split(", ")
    told = row["answer"].split(", ")
    assert all(a < b for a, b in pairwise(told)) and set(told) <= set(words)
    assert len(told) == len(words) or (len(words) == 2 and told == [min(words)])


def check_odd_one_out(row: dict) -> None:
    words = row["question"].split(": ")[1].rstrip("?").split(", ")
    homes = [groups_of(word) for word in words]
    strangers = [w for i, w in enumerate(words) if set.intersection(*homes[:i], *homes[i + 1 :])]
    assert strangers == [row["answer"]]
    rest = next(groups_of(word) for word in words if word != row["answer"])
    assert all({a, b} not in OVERLAPPING for a in rest for b in groups_of(row["answer"]))


def check_pairs(row: dict) -> None:
    one = quoted(row["question"]) or [re.split(r"[ ,]", row["question"])[1]]
    pairs = OPPOSITES if row["skill"] == "opposite" else PLURALS
    found = [set(pair) for pair in pairs if one[0] in pair]
    assert found == [{one[0], row["answer"]}]


def check_rhyme(row: dict) -> None:
    three = quoted(row["question"])
    word = three[0] if row["question"].startswith("Which") else three[2]
    assert [other for other in three if other != word and rhymes(word, other)] == [row["answer"]]


def check_group(row: dict) -> None:
    (word,), shown = quoted(row["question"]), [name for name in GROUPS if f"the {name}" in row["question"]]
    assert len(shown) == 2 and [name for name in shown if name in groups_of(word)] == [row["answer"]]


CHECKS = {
    **dict.fromkeys(("spelling", "letters", "first-letter", "last-letter", "backwards"), check_letters),
    **dict.fromkeys(("plural", "singular", "opposite"), check_pairs),
    "alphabet": check_alphabet,
    "odd-one-out": check_odd_one_out,
    "rhyme": check_rhyme,
    "group": check_group,
}


@pytest.mark.parametrize("skill", CHECKS)
def test_word_games_are_right(skill: str) -> None:
    asked = [row for row in sample("tutor-words") if row["skill"] == skill]
    assert len(asked) > 100
    for row in asked:
        CHECKS[skill](row)


def test_every_word_game_is_checked() -> None:
    assert {row["skill"] for row in sample("tutor-words")} == set(CHECKS)


# --- translation
def sentence_start(text: str) -> str:
    return text[0].upper() + text[1:]


def test_translations_agree_with_the_pairs_of_the_corpus() -> None:
    choices, known = Choices(Random(9)), defaultdict(set)
    for _ in range(60000):
        english, french = choices.pick(PAIRS)(choices)
        known[polish(english)].add(sentence_start(french))
    assert all(len(found) == 1 for found in known.values())
    met = 0
    for row in sample("tutor-translation"):
        english = row["item"].removeprefix("translation:")
        told, asked = row["answer"], row["question"]
        if row["skill"] == "to-english":
            assert told == english, row
            (french,) = re.findall(r'"(.*)"|: (.*)$', asked)
            told = sentence_start("".join(french))
        else:
            assert english.lower() in asked.lower(), row
        met += english in known
        assert english not in known or known[english] == {told}, row
    assert met > 0.75 * MANY


def test_nobody_is_bought() -> None:
    person = re.compile(
        r"(buy|want|take|choose|have|has|lose)s? (a|an|the) (boy|girl|child|man|woman|baker|doctor)\b"
    )
    assert not any(person.search(row["item"]) for row in sample("tutor-translation"))
    assert any("sees a woman" in row["item"] for row in sample("tutor-translation"))


@pytest.mark.parametrize(
    ("english", "french"),
    [
        ("A beautiful tree", "Un bel arbre"),
        ("An orange", "Une orange"),
        ("Where is the key?", "Où est la clé ?"),
        ("Thank you", "Merci"),
    ],
)
def test_translations_by_hand(english: str, french: str) -> None:
    made = [row for row in sample("tutor-translation") if row["item"] == f"translation:{english}"]
    assert {row["answer"] for row in made if row["skill"] == "to-french"} == {french}
    assert {row["answer"] for row in made if row["skill"] == "to-english"} <= {english}


# --- knowledge: skill -> table, the field that names the fact, the field that is told
FIELDS = {
    "capital": ("countries", 1, 0),
    "continent": ("countries", 1, 2),
    "language": ("languages", 1, 0),
    "food": ("animals", 0, 2),
    "home": ("animals", 0, 3),
    "legs": ("animals", 0, 4),
    "kind": ("animals", 0, 1),
    "inventor": ("inventions", 0, 1),
    "invention": ("inventions", 0, 2),
    "history": ("history", 0, 1),
    "planet": ("planets", 0, 0),
    "days": ("months", 0, 2),
    "month": ("months", 0, 0),
    "next": ("months", 0, 3),
    "season": ("months", 0, 4),
    "week": ("week", 1, 0),
    "measure": ("measures", 0, 3),
    "author": ("authors", 0, 1),
    "painter": ("arts", 0, 1),
    "composer": ("music", 0, 1),
    "geography": ("geography", 0, 1),
}
BOTH_WAYS = {"capital", "next", "week", "geography"}
"""Skills that also ask for the field that names the fact."""


def without(text: str, *fields: str) -> str:
    """The text with each field's words taken out, whatever their case."""
    for field in sorted(fields, key=len, reverse=True):
        text = re.sub(rf"\b{re.escape(field)}\b", "_", text, flags=re.IGNORECASE)
    return text


def test_every_fact_is_told_as_its_row_has_it() -> None:
    tables = {table.name: table.rows for table in TABLES}
    met, frames = set(), defaultdict(set)
    for row in sample("tutor-knowledge"):
        if row["skill"] in ("everyday", "nature"):
            continue
        name, key, told = FIELDS[row["skill"]]
        (fact,) = [r for r in tables[name] if r[key] == row["item"].split(":", 1)[1]]
        assert row["skill"] == "geography" or without(row["question"], *fact) != row["question"], row
        said = [field for field in {fact[key], fact[told]} if without(row["answer"], field) != row["answer"]]
        if row["skill"] in BOTH_WAYS:
            assert len(said) == 2 or without(row["question"], said[0]) == row["question"], row
        else:
            assert fact[told] in said, row
        frames[row["skill"]].add(without(row["answer"], fact[key], fact[told]))
        met.add((row["skill"], row["item"]))
    assert all(len(found) <= 1 + (skill in BOTH_WAYS) for skill, found in frames.items()), frames
    expected = [(skill, f"{skill}:{r[key]}") for skill, (name, key, _) in FIELDS.items() for r in tables[name]]
    assert met == set(expected) and len(met) == len(expected)


def test_nature_is_the_table_of_nature() -> None:
    (nature,) = [table for table in TABLES if table.name == "nature"]
    told = {row["answer"] for row in sample("tutor-knowledge") if row["skill"] == "nature"}
    assert told == {polish(f"{fact}.") for (fact,) in nature.rows} - {"Wine is made from grapes."}


def test_everyday_answers_are_short_sentences_and_name_their_item() -> None:
    everyday = [row for row in sample("tutor-knowledge") if row["skill"] == "everyday"]
    assert len({row["item"] for row in everyday}) >= 100
    for row in everyday:
        assert row["item"] == f"everyday:{row['answer']}"
        assert row["answer"][-1] in ".?!" and row["question"][-1] == "?" and len(row["answer"].split()) <= 14, row
