"""Few-shot prompts and leading sentences, by hand."""

from __future__ import annotations

import pytest

from luthier.core.errors import UserError
from luthier.core.records import Conversation, Message, Origin, PromptCompletion
from luthier.evaluate import baselines

ORIGIN = Origin("toy", "toy.jsonl", 1)


def _row(prompt: str, answer: str, **fields: str) -> PromptCompletion:
    return PromptCompletion(prompt, answer, ORIGIN, fields=fields)


TRAIN = [_row("x" * size, "yes " * (size % 7 + 1)) for size in range(1, 41)]


def test_examples_are_drawn_by_seed_from_the_shortest_quarter() -> None:
    drawn = baselines.choose_examples(TRAIN, 3, seed=4)
    assert drawn == baselines.choose_examples(TRAIN, 3, seed=4) != baselines.choose_examples(TRAIN, 3, seed=5)
    lengths = sorted(len(row.prompt) + len(row.completion) for row in TRAIN)
    assert len(drawn) == 3
    assert all(len(row.prompt) + len(row.completion) <= lengths[10] for row in drawn)


def test_fewer_rows_than_examples_are_all_taken() -> None:
    assert len(baselines.choose_examples(TRAIN[:2], 5, seed=1)) == 2


def test_few_shot_text_puts_the_examples_before_the_prompt() -> None:
    shown = baselines.few_shot(_row("Q: 3?", "three"), [_row("Q: 1?", "one"), _row("Q: 2?\n", "two")], chat=False)
    assert isinstance(shown, PromptCompletion)
    assert shown.prompt == "Q: 1? one\n\nQ: 2?\ntwo\n\nQ: 3?"
    assert shown.completion == "three"


def test_few_shot_chat_puts_the_examples_into_earlier_turns_after_one_system_message() -> None:
    system, ask, answer = Message("system", "Be brief."), Message("user", "3?"), Message("assistant", "three")
    example = Conversation((system, Message("user", "1?"), Message("assistant", "one")), ORIGIN)
    shown = baselines.few_shot(Conversation((system, ask, answer), ORIGIN), [example, _row("2?", "two")], chat=True)
    assert isinstance(shown, Conversation)
    said = [(m.role, m.content) for m in shown.messages]
    assert said == [
        ("system", "Be brief."),
        ("user", "1?"),
        ("assistant", "one"),
        ("user", "2?"),
        ("assistant", "two"),
        ("user", "3?"),
        ("assistant", "three"),
    ]


def test_as_many_examples_as_fit() -> None:
    record, examples = _row("qqqq", "a"), [_row("1234", "5"), _row("1234", "5")]

    def length(shown: object) -> int:
        assert isinstance(shown, PromptCompletion)
        return len(shown.prompt)

    # alone 4; each example adds "1234 5" and an empty line: 8
    assert baselines.fitting(record, examples, False, length, 20)[1] == 2
    assert baselines.fitting(record, examples, False, length, 19)[1] == 1
    assert baselines.fitting(record, examples, False, length, 11) == (record, 0)


def test_a_line_of_dialogue_is_one_sentence() -> None:
    text = "#Person1#: Hello. How are you?\nAnna: Fine! And you?\nThey meet. They talk. The end."
    assert baselines.sentences(text) == [
        "#Person1#: Hello. How are you?",
        "Anna: Fine! And you?",
        "They meet.",
        "They talk.",
        "The end.",
    ]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (0, "One two."),
        (4, "One two. Three four."),
        (4.9, "One two. Three four."),
        (99, "One two. Three four. Five six."),
    ],
)
def test_lead_takes_the_sentences_that_come_nearest(words: float, expected: str) -> None:
    assert baselines.lead("One two. Three four. Five six.", words) == expected


def test_lead_of_nothing_is_nothing() -> None:
    assert baselines.lead(" \n", 5) == ""


def test_target_is_the_median_answer() -> None:
    assert baselines.target_words([_row("", "a"), _row("", "a b c"), _row("", "a b c d e f")]) == 3


def test_lead_column_must_be_there() -> None:
    row = _row("Summarise: hi", "x", dialogue="hi there", topic="t")
    assert baselines.lead_source(row, "dialogue") == "hi there"
    assert baselines.lead_source(row, None) == "Summarise: hi"
    with pytest.raises(UserError, match=r"evaluate\.lead is 'dialog'.*dialogue, topic"):
        baselines.lead_source(row, "dialog")
