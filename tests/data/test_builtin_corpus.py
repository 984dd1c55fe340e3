"""The pretraining corpus: shares, correctness, variety, what it must never hold, speed, determinism."""

import re
import time
from collections import Counter
from math import isclose

import pytest

from luthier.data.builtin import NAMES, rows
from luthier.data.builtin.dialogues import HELD_OUT, families
from luthier.data.builtin.facts import FACTS, TABLES
from luthier.data.builtin.french import NOUNS, VERBS, a, described, the
from luthier.data.builtin.wordgames import GROUPS, OPPOSITES, PLURALS, RHYMES

SAMPLE = list(rows("corpus", 1, 20000))
SHARES = {
    "dialogue": 0.40,
    "story": 0.15,
    "arithmetic": 0.15,
    "knowledge": 0.10,
    "words": 0.08,
    "manners": 0.07,
    "french": 0.05,
}


@pytest.mark.parametrize("name", NAMES)
def test_rows_depend_on_name_and_seed_alone(name: str) -> None:
    many = list(rows(name, 5, 40))
    assert list(rows(name, 5, 10)) == many[:10]
    assert list(rows(name, 6, 10)) != many[:10]
    assert len(many) == 40


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match="dialogues-test"):
        rows("dialogue", 1, 1)


def test_shares_of_the_text() -> None:
    size = Counter()
    for row in SAMPLE:
        size[row["kind"]] += len(row["text"].encode())
    for kind, share in SHARES.items():
        assert abs(size[kind] / size.total() - share) < 0.03, kind


def test_bits_are_plausible() -> None:
    bits = sum(row["bits"] for row in SAMPLE)
    size = sum(len(row["text"].encode()) for row in SAMPLE)
    assert all(row["bits"] > 10 for row in SAMPLE)
    assert 0.05 < bits / size < 0.5


def test_held_out_stream_has_the_same_families_and_other_documents() -> None:
    fresh = list(rows("corpus-heldout", 1, 5000))
    known = {(row["kind"], row["family"]) for row in SAMPLE}
    seen = {row["text"] for row in SAMPLE}
    common = [row for row in fresh if row["kind"] != "manners"]
    assert sum((row["kind"], row["family"]) in known for row in common) / len(common) > 0.99
    assert sum(row["text"] in seen for row in fresh) / len(fresh) < 0.01


def test_few_exact_repeats() -> None:
    for kind in SHARES:
        texts = [row["text"] for row in SAMPLE if row["kind"] == kind]
        assert len(set(texts)) / len(texts) > 0.98, kind


def test_no_held_out_family_and_no_demo_prompt() -> None:
    held_out = {family.title for family in families(HELD_OUT)}
    for row in SAMPLE:
        assert row["family"] not in held_out
        assert "ummarise" not in row["text"] and "Summary:" not in row["text"]


def test_text_is_clean() -> None:
    faults = re.compile(r"[{}\[\]|<>~^\t]|  | \n|\n\n\n|\.\.|,\.| [.,]")
    for row in SAMPLE:
        text = row["text"]
        assert not faults.search(text), text
        assert text == text.strip()
        if row["kind"] in ("story", "manners", "knowledge", "arithmetic"):
            assert not re.search(r"\b[Aa] [aeio](?!ne |uro)", text), text
            assert not re.search(r"(^|[.] )[a-z]", text), text
        if row["kind"] in ("story", "manners"):
            assert text.count('"') % 2 == 0, text


def test_arithmetic_is_right() -> None:
    compute = {
        "+": lambda x, y: x + y,
        "-": lambda x, y: x - y,
        "*": lambda x, y: x * y,
        "/": lambda x, y: x / y,
    }
    count = 0
    for row in SAMPLE:
        if row["kind"] != "arithmetic":
            continue
        found = re.findall(r"(\d+) ([-+*/]) (\d+) = (\d+)", row["text"])
        count += len(found)
        for x, sign, y, result in found:
            assert isclose(compute[sign](int(x), int(y)), int(result)), row["text"]
        for number, parity in re.findall(r"\? (\d+) is (even|odd)", row["text"]):
            assert (int(number) % 2 == 0) == (parity == "even")
        for smaller, larger in re.findall(r"(\d+) is smaller than (\d+)", row["text"]):
            assert int(smaller) < int(larger)
    assert count > 5000


def test_facts_fill_their_phrasings() -> None:
    assert len(FACTS) > 300
    for table in TABLES:
        fields = {int(n) for phrasing in table.phrasings for n in re.findall(r"\{(\d)\}", phrasing)}
        assert {len(row) for row in table.rows} == {max(fields) + 1}, table.name
        assert len({tuple(row) for row in table.rows}) == len(table.rows), table.name


def test_word_tables() -> None:
    assert all(len(pair) == 2 for pair in PLURALS + OPPOSITES)
    assert all(len(group) >= 3 == len(group[:3]) for group in RHYMES)
    assert all(len(set(words)) == len(words) >= 7 for words in GROUPS.values())


def test_alphabetical_order_is_right() -> None:
    lists = [
        found for row in SAMPLE if row["kind"] == "words" for found in re.findall(r"Answer: (.+)\.", row["text"])
    ]
    assert len(lists) > 300
    for found in lists:
        words = found.split(", ")
        assert words == sorted(words, key=str.lower)


def test_french_agrees() -> None:
    assert the("école", "f") == "l'école" and the("homme", "m") == "l'homme" and the("robe", "f") == "la robe"
    assert a("souris", "f") == "une souris"
    old, white = ["old", "vieux", "vieille", "before"], ["white", "blanc", "blanche", "after"]
    assert described(["tree", "arbre", "m"], old) == "vieil arbre"
    assert described(["church", "église", "f"], old) == "vieille église"
    assert described(["dress", "robe", "f"], white) == "robe blanche"
    assert all(noun[2] in "mf" and len(noun) == 3 for noun in NOUNS) and all(len(verb) == 6 for verb in VERBS)


def test_french_elides_before_vowels() -> None:
    for row in SAMPLE:
        if row["kind"] == "french":
            assert not re.search(r"\b([Ll]e|[Ll]a|[Jj]e) [aeiouéèêâîôœ]", row["text"]), row["text"]
            assert not re.search(r"\b(beau|vieux) [aeiouéèêâîôœ]", row["text"]), row["text"]


def test_speed() -> None:
    start = time.process_time()
    size = sum(len(row["text"].encode()) for row in rows("corpus", 9, 3000))
    # One megabyte a second is the aim; half of it leaves room for a busy machine.
    assert size / (time.process_time() - start) > 0.5e6
