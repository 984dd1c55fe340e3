"""`chat` and `generate` answer as the evaluation did, and say what is wrong with a row before any work."""

from __future__ import annotations

import json
import unicodedata
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest


def evaluated(out: str, variant: str) -> list[dict]:
    """Test rows with the answers that stage 5 wrote down."""
    path = Path(out) / "5-evaluate" / "answers" / f"{variant}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def visible(text: str) -> str:
    """Without the bytes that a model of random weights says, which are shown as broken characters."""
    return "".join(c for c in text if c == "\n" or (c.isprintable() and c != "\ufffd"))


def type_in(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr("sys.stdin", StringIO("".join(f"{line}\n" for line in lines)))


def test_generate_gives_the_answers_of_the_evaluation(done, luthier, tmp_path):
    for variant, model in (("full", None), ("full", "full"), ("base", "base")):
        rows = evaluated(done["out"], variant)
        asked = tmp_path / "asked.jsonl"
        asked.write_text("".join(json.dumps({"prompt": row["input"], "n": i}) + "\n" for i, row in enumerate(rows)))
        options = ["--model", model] if model else []
        said = luthier("generate", done["out"], str(asked), "--max-new-tokens", "4", *options)
        assert said.code == 0, said.err
        answers = [json.loads(line) for line in said.out.splitlines()]
        assert [row["answer"] for row in answers] == [row["answer"] for row in rows]
        assert [row["n"] for row in answers] == list(range(len(rows)))
        assert {row["finish"] for row in answers} <= {"stop", "length"} and all(row["tokens"] <= 4 for row in answers)


def test_generate_to_a_file_from_lines_of_text_and_from_messages(done, luthier, tmp_path):
    rows = evaluated(done["out"], "full")
    lines, turns, out = tmp_path / "asked.txt", tmp_path / "asked.jsonl", tmp_path / "answers.jsonl"
    lines.write_text("".join(f"{row['input']}\n" for row in rows))
    turns.write_text(
        "".join(json.dumps({"messages": [{"role": "user", "content": row["input"]}]}) + "\n\n" for row in rows)
    )
    for file in (lines, turns):
        said = luthier("generate", done["out"], str(file), "--max-new-tokens", "4", "--out", str(out), "--json")
        assert said.code == 0 and said.document["rows"] == len(rows) and said.document["out"] == str(out)
        answers = [json.loads(line) for line in out.read_text().splitlines()]
        assert [row["answer"] for row in answers] == [row["answer"] for row in rows]


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ({"question": "?"}, "`prompt`"),
        ({"prompt": "a" * 200}, "at most 95"),
        ({"messages": "Hello"}, "a list"),
        ({"messages": [{"role": "user"}]}, '"role"'),
        ({"messages": [{"role": "assistant", "content": "Hello"}]}, "the user's"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}, "single prompts"),
    ],
)
def test_a_row_that_cannot_be_asked_is_named_before_any_work(done, luthier, tmp_path, row, word):
    asked, out = tmp_path / "asked.jsonl", tmp_path / "answers.jsonl"
    asked.write_text(json.dumps({"prompt": "fine"}) + "\n" + json.dumps(row) + "\n")
    said = luthier("generate", done["out"], str(asked), "--out", str(out))
    assert said.code == 2 and f"{asked} row 2" in said.err and word in said.err
    assert not out.exists()


def test_models_and_files_that_are_not_there(done, luthier):
    said = luthier("generate", done["out"], "nowhere.jsonl")
    assert said.code == 2 and "no file at nowhere.jsonl" in said.err
    said = luthier("chat", done["out"], "--model", "lora")
    assert said.code == 2 and "full" in said.err
    assert luthier("chat", "nowhere").code == 2
    assert luthier("chat", done["out"], "--top-p", "0").code == 2


def test_chat_answers_each_line_as_the_evaluation_did(done, luthier, monkeypatch):
    rows = evaluated(done["out"], "full")[:3]
    type_in(monkeypatch, *(row["input"] for row in rows), "", "/exit", "never read")
    said = luthier("chat", done["out"], "--max-new-tokens", "4")
    assert said.code == 0
    assert visible(said.out) == visible("".join(row["answer"] + "\n" for row in rows)) != ""
    assert said.out.count("\n") == 3 and not any(unicodedata.category(c) == "Cc" for c in said.out if c != "\n")


def test_chat_beside_the_base_and_as_json(done, luthier, monkeypatch):
    tuned, base = (evaluated(done["out"], variant)[0] for variant in ("full", "base"))
    type_in(monkeypatch, tuned["input"], "/reset", tuned["input"])
    document = luthier("chat", done["out"], "--base", "--max-new-tokens", "4", "--json").document
    names = document["models"]
    assert names == ["model", done["run"]]
    assert [turn["prompt"] for turn in document["turns"]] == [tuned["input"]] * 2
    for turn in document["turns"]:
        assert [(row["model"], row["answer"]) for row in turn["answers"]] == [
            (names[0], base["answer"]),
            (names[1], tuned["answer"]),
        ]
    type_in(monkeypatch, tuned["input"])
    said = luthier("chat", done["out"], "--base", "--max-new-tokens", "4")
    expected = f"{names[0]}: {base['answer']}\n{names[1]}: {tuned['answer']}\n"
    assert visible(said.out) == visible(expected)


def test_a_line_that_is_not_utf8_is_said_to_be_so(done, luthier, monkeypatch):
    for errors in ("strict", "surrogateescape"):
        monkeypatch.setattr("sys.stdin", TextIOWrapper(BytesIO(b"caf\xe9?\n"), encoding="utf-8", errors=errors))
        said = luthier("chat", done["out"])
        assert said.code == 2 and "standard input is not UTF-8" in said.err and "iconv" in said.err
