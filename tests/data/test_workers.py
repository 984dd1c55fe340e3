"""Rows rendered by other processes: the same folder byte for byte, the same order, and errors that arrive."""

from __future__ import annotations

import json

import pytest

from luthier.core.errors import UserError
from luthier.data import workers
from luthier.data.readers import Row
from luthier.data.taking import kit_of
from luthier.recipe.schema import Data, Model
from luthier.recipe.sections import DataSection
from tests.data.conftest import pairs, write_jsonl


def files(folder) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def rows_of_all_kinds() -> list:
    """Rows that are kept, copies, nearly copies, too long, broken and empty, with groups."""
    rows = [{**row, "topic": i % 7} for i, row in enumerate(pairs(90))]
    near = {**rows[4], "prompt": rows[4]["prompt"] + " and then some more words", "topic": 3}
    more = [rows[5], near, {**near, "prompt": near["prompt"] + "!"}, {**rows[0], "prompt": "x" * 500}]
    return [*rows[:50], '{"prompt": ', *more, {**rows[1], "completion": ""}, *rows[50:]]


def test_the_number_of_processes_changes_nothing(stage, tmp_path, monkeypatch):
    path = write_jsonl(tmp_path / "a.jsonl", rows_of_all_kinds())
    texts = write_jsonl(tmp_path / "b.jsonl", [{"text": "a long text " * 60}, {"text": "short"}])
    sources = {"a": {"source": str(path), "rows": 93}, "b": str(texts)}
    data = {"sources": sources, "split": {"validation": 6, "test": 9}}
    monkeypatch.setattr("luthier.data.intake.CHUNK", 16)
    alone = files(stage(context=200, near_duplicates="remove", **data).out)
    monkeypatch.setattr(workers, "ALONE_SECONDS", 0.0)
    monkeypatch.setattr(workers, "cores", lambda: 2)
    assert files(stage(context=200, near_duplicates="remove", **data).out) == alone
    card = json.loads(alone["card.json"])
    assert card["counts"]["rejected"] == 2 and card["splits"]["train"]["texts_cut_into_pieces"] == 1
    assert set(card["counts"]["removed"]) == {"rows", "duplicates", "near_duplicates", "too_long"}


@pytest.fixture
def section(base):
    return DataSection(seed=1, model=Model(base=str(base)), data=Data.model_validate({"sources": "unread.jsonl"}))


def test_no_process_is_started_for_little_work(section, monkeypatch):
    monkeypatch.setattr(workers, "_Process", None)  # starting one would fail
    with workers.Workers(section, kit_of(section), number=8) as crew:
        assert len(list(crew.take(([], None) for _ in range(20)))) == 20


def test_what_goes_wrong_elsewhere_is_raised_here(section):
    bad = [Row(None, None)]  # pyright: ignore[reportArgumentType]  (no row at all, to make the renderer stumble)
    view = workers.View("text", {"text": ("text",)}, None, "")
    with (
        workers.Workers(section, kit_of(section), number=2, alone=0.0) as crew,
        pytest.raises(TypeError, match="not iterable"),
    ):
        list(crew.take([(bad, view)]))


def test_a_process_that_dies_is_told_in_a_sentence(section):
    with workers.Workers(section, kit_of(section), number=2, alone=0.0) as crew:
        chunks = (([], None) for _ in range(50))
        taken = crew.take(chunks)
        next(taken)
        for process in crew._processes:
            process.kill()
        with pytest.raises(UserError, match=r"a process that renders rows has ended \(exit code -9\)"):
            list(taken)
