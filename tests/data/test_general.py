"""Running text beside rows of another layout: what the variants forget is measured on it."""

from __future__ import annotations

import pytest

from luthier.core.errors import UserError
from tests.data.conftest import make_base, pairs, write_jsonl


def _files(folder):
    rows = write_jsonl(folder / "a.jsonl", pairs(40))
    general = write_jsonl(folder / "g.jsonl", [{"text": f"text number {i} of many"} for i in range(12)])
    return {"rows": str(rows), "general": {"source": str(general), "rows": 10}}


def test_general_text_is_a_split_of_its_own_whatever_the_layout_of_the_rest(stage, tmp_path):
    done = stage(
        sources=_files(tmp_path),
        layout="prompt-completion",
        prompt="Q: {prompt}",
        split={"validation": 5, "test": 5, "general": "general"},
    )
    assert [row["kind"] for row in done.rows("general")] == ["text"] * 10
    sizes = {name: split["rows"] for name, split in done.card["splits"].items()}
    assert sizes == {"train": 30, "validation": 5, "test": 5, "general": 10}
    assert done.counts.removed["rows"] == 2
    assert {row["origin"]["source"] for row in done.rows("train")} == {"rows"}


def test_without_general_there_is_no_such_split(stage, tmp_path):
    done = stage(sources=_files(tmp_path)["rows"], split={"validation": 5, "test": 5})
    assert set(done.card["splits"]) == {"train", "validation", "test"}


def test_text_that_is_trained_on_too_is_taken_out_of_training(stage, tmp_path):
    texts = [{"text": f"text number {i} of many"} for i in range(30)]
    own = {
        "rows": str(write_jsonl(tmp_path / "a.jsonl", texts)),
        "general": str(write_jsonl(tmp_path / "g.jsonl", texts[:4])),
    }
    done = stage(sources=own, split={"validation": 0, "test": 0, "general": "general"}, near_duplicates="off")
    assert done.counts.removed["leak"] == 4
    assert len(done.shard("general")) == 4 and len(done.shard("train")) == 26


def test_one_source_cannot_be_two_splits(stage, tmp_path):
    with pytest.raises(UserError, match="general and test are both 'general'"):
        stage(sources=_files(tmp_path), split={"test": "general", "general": "general"})


def test_an_encoder_decoder_needs_tokens_for_hidden_spans(stage, tmp_path):
    base = make_base(tmp_path / "t5", encoder_decoder=True)
    with pytest.raises(UserError, match=r"data\.split\.general: .*<extra_id_0>"):
        stage(on=base, sources=_files(tmp_path), split={"general": "general"})
