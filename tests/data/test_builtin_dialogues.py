"""The dialogues: families, wording, variety, no near-duplicates, nothing of the test set in training."""

import re
from collections import Counter, defaultdict
from math import ceil
from random import Random
from statistics import mean

import pytest

from luthier.data.builtin import rows
from luthier.data.builtin.choices import Choices
from luthier.data.builtin.dialogues import (
    HELD_OUT,
    MEANT,
    OPEN,
    SETTLED,
    UNDERSTOOD,
    dialogue,
    families,
)
from luthier.data.builtin.dialogues import TRAINING as FILES

FAULTS = re.compile(
    r"[{}\[\]|<>~^]|  | \n|\b[PQ]\b|\.\.|,\.| [.,?!]|\b[Aa] [aeio]|(?:[Uu]ntil|[Ff]or|[Bb]y) on [A-Z]"
)
FALSE_ALARMS = re.compile(r"\b[Aa] (?:one|uni|eu)")
SPEAKER = re.compile(r"#Person[12]#")
TRAINING = list(rows("dialogues", 1, 2000))
TEST = list(rows("dialogues-test", 1, 500))


def shingles(text: str) -> set[str]:
    return {text[i : i + 5] for i in range(len(text) - 4)}


def near_duplicates(texts: list[str], least: float = 0.8) -> list[tuple[int, int]]:
    """(row, earlier row) for each row whose Jaccard similarity with an earlier row is at least `least`.

    Exact: two such sets share one of the first |x| - ceil(least |x|) + 1 elements in any fixed order; rarest
    first keeps the candidates few.
    """
    sets = [shingles(text) for text in texts]
    count = Counter(shingle for found in sets for shingle in found)
    index: dict[str, list[int]] = defaultdict(list)
    pairs = []
    for i, found in enumerate(sets):
        prefix = sorted(found, key=lambda s: (count[s], s))[: len(found) - ceil(least * len(found)) + 1]
        for j in sorted({j for shingle in prefix for j in index[shingle]}):
            if not least <= len(found) / len(sets[j]) <= 1 / least:
                continue
            shared = len(found & sets[j])
            if shared / (len(found) + len(sets[j]) - shared) >= least:
                pairs.append((i, j))
                break
        for shingle in prefix:
            index[shingle].append(i)
    return pairs


def words(row: dict) -> int:
    return len(SPEAKER.sub("", row["dialogue"]).replace(":", "").split())


def test_near_duplicates_are_found_by_hand() -> None:
    # 20 and 21 shingles of which 20 are shared: 20 / 21 = 0.95; the third text shares none.
    first = "abcdefghijklmnopqrstuvwx"
    assert near_duplicates([first, "0123456789" * 2, first + "y"]) == [(2, 0)]


def test_enough_families_and_none_in_both() -> None:
    training = {family.title for family in families(FILES)}
    open_ones = {family.title for family in families(OPEN)}
    held_out = {family.title for family in families(HELD_OUT)}
    assert len(training) == len(families(FILES)) >= 200
    assert len(open_ones) == len(families(OPEN)) and not open_ones & (training | held_out)
    assert len(held_out) == len(families(HELD_OUT)) >= 24
    assert not training & held_out
    assert {row["scenario"] for row in TRAINING} <= training | open_ones
    assert {row["scenario"] for row in TEST} == held_out


@pytest.mark.parametrize("files", [FILES, OPEN, HELD_OUT], ids=["training", "open", "held out"])
def test_every_family_is_varied_and_well_formed(files: tuple[str, ...]) -> None:
    for family in families(files):
        assert len(family.outcomes) >= 2, family.title
        choices = Choices(Random(family.title))
        drawn = [dialogue(family, choices) for _ in range(60)]
        assert len({text for text, _ in drawn}) >= 50, family.title
        assert len({summary for _, summary in drawn}) >= 20, family.title
        for text, summary in drawn:
            fault = FAULTS.search(FALSE_ALARMS.sub("", f"{text}\n{summary}"))
            assert not fault, (family.title, fault, text, summary)
            assert summary.endswith(".") and (summary[0] == "#" or summary[0].isupper())
            assert 11 <= len(summary.split()) <= 40, summary
            assert {"#Person1#", "#Person2#"} <= set(SPEAKER.findall(text))
            assert SPEAKER.search(summary), summary


def test_turns_alternate_and_begin_with_person_one() -> None:
    for row in TRAINING + TEST:
        speakers = [line.split(":")[0] for line in row["dialogue"].split("\n")]
        assert speakers == [f"#Person{1 + i % 2}#" for i in range(len(speakers))], row["dialogue"]


@pytest.mark.parametrize("sample", [TRAINING, TEST], ids=["training", "held out"])
def test_lengths(sample: list[dict]) -> None:
    turns = [row["dialogue"].count("\n") + 1 for row in sample]
    lengths = [words(row) for row in sample]
    summaries = [len(row["summary"].split()) for row in sample]
    assert 62 <= mean(lengths) <= 100 and 18 <= mean(summaries) <= 30
    assert mean(6 <= n <= 15 for n in turns) > 0.97
    assert mean(45 <= n <= 125 for n in lengths) > 0.97
    assert mean(14 <= n <= 32 for n in summaries) > 0.97
    assert mean("#Person1#" in row["summary"] and "#Person2#" in row["summary"] for row in sample) == 1


def test_person_one_is_not_always_the_protagonist() -> None:
    first = mean(row["summary"].startswith("#Person1#") for row in TRAINING)
    assert 0.3 < first < 0.7


def test_summaries_are_told_with_words_of_the_dialogue() -> None:
    # Words of four letters and more: names, things, reasons, numbers in words.
    shares = []
    for row in TRAINING + TEST:
        said = set(re.findall(r"[a-z0-9']+", row["dialogue"].lower()))
        told = [w for w in re.findall(r"[a-z0-9]+", SPEAKER.sub("", row["summary"]).lower()) if len(w) > 3]
        shares.append(mean(w in said or w.rstrip("s") in said or f"{w}s" in said for w in told))
    assert mean(shares) > 0.6


def test_few_near_duplicates_in_training() -> None:
    assert len(near_duplicates([row["dialogue"] for row in TRAINING])) < 0.01 * len(TRAINING)


def test_no_test_row_is_near_a_training_row() -> None:
    texts = [row["dialogue"] for row in TRAINING[:1000] + TEST]
    found = [pair for pair in near_duplicates(texts) if pair[0] >= 1000 > pair[1]]
    assert not found


def test_held_out_words_occur_in_training() -> None:
    known = {w for row in rows("dialogues", 2, 20000) for w in re.findall(r"[a-z]+", row["dialogue"].lower())}
    met = [w for row in TEST for w in re.findall(r"[a-z]+", row["dialogue"].lower())]
    assert mean(w in known for w in met) > 0.985


def test_most_summaries_are_said_over_again_and_open_families_never_repeat() -> None:
    recaps = re.compile(r"#: (?:" + "|".join(map(re.escape, (*UNDERSTOOD, *MEANT, *SETTLED))) + ") [a-z]|: I ")
    assert mean(bool(recaps.search(row["dialogue"])) for row in TRAINING) > 0.85
    titles = {family.title for family in families(OPEN)}
    opened = [row for row in TRAINING if row["scenario"] in titles]
    assert 0.45 < len(opened) / len(TRAINING) < 0.55
    assert len({row["summary"] for row in opened}) == len(opened)
