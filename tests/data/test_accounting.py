"""Every row that comes in is kept, rejected with a reason, or removed by a setting, whatever comes in."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.core.files import read_jsonl
from luthier.recipe.schema import Model
from tests.data.conftest import Stage, write_jsonl

CONTEXT = 64
KINDS = ("good", "copy", "broken", "empty", "missing", "long", "blank")


def line(kind: str, number: int) -> str:
    values = {"prompt": f"question {number}", "completion": f"answer {number}"}
    if kind == "copy":
        values = {"prompt": " question\tfirst", "completion": "answer  first "}
    if kind == "empty":
        values["completion"] = " "
    if kind == "missing":
        del values["completion"]
    if kind == "long":
        values["prompt"] = "long " * 20 + str(number)
    if kind == "blank":
        return "  "
    return json.dumps(values)[:-1] if kind == "broken" else json.dumps(values)


@settings(max_examples=25, deadline=None)
@given(kinds=st.lists(st.sampled_from(KINDS), max_size=60), rows=st.integers(1, 70))
def test_in_is_kept_and_rejected_and_removed(base, kinds, rows):
    first = json.dumps({"prompt": "question first", "completion": "answer first"})
    real = [kind for kind in kinds if kind != "blank"]
    taken = Counter(real[: rows - 1])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = write_jsonl(folder / "a.jsonl", [first, *(line(kind, i) for i, kind in enumerate(kinds))])
        done = Stage(base, folder / "out", CONTEXT, 7, sources={"data": {"source": str(path), "rows": rows}})
        counts = done.counts
        removed = {
            "rows": len(real) + 1 - rows if len(real) + 1 > rows else 0,
            "too_long": taken["long"],
            "duplicates": taken["copy"],
        }
        assert counts.total == len(real) + 1
        assert counts.rejected == taken["broken"] + taken["empty"] + taken["missing"] == len(done.rejected)
        assert counts.removed == {setting: number for setting, number in removed.items() if number}
        assert counts.kept == 1 + taken["good"] == len(done.shard())
        places = [row["row"] for file in (done.rejected, done.removed) for row in file]
        places += [row["origin"]["row"] for row in done.rows()]
        lines = [number for number, text in enumerate(path.read_text().splitlines(), 1) if text.strip()]
        assert sorted(places) == lines
        assert read_jsonl(done.out / "removed.jsonl") == done.removed


def test_what_is_rejected_is_written_as_strict_json(base, tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", ['{"prompt": "one", "completion": "1"}', '{"prompt": "two", "n": NaN}'])
    done = Stage(base, tmp_path / "out", CONTEXT, 7, sources=str(path))
    assert [row["raw"] for row in done.rejected] == [{"prompt": "two", "n": None}]


@pytest.mark.data
def test_every_row_of_dialogsum(data_folder, tmp_path):
    base = data_folder / "stories260K" / "hf"
    dialogsum = data_folder / "dialogsum"
    done = Stage(
        base,
        tmp_path / "out",
        512,
        7,
        sources={"dialogsum": str(dialogsum / "dialogsum.train.jsonl")},
        columns={"prompt": "dialogue", "completion": "summary"},
        prompt="{dialogue}\nSummary:",
        split={"validation": str(dialogsum / "dialogsum.dev.jsonl"), "test": str(dialogsum / "dialogsum.test.jsonl")},
        max_rejected=0.0,
    )
    sources = done.card["sources"]
    assert sources["dialogsum"]["counts"]["in"] == 12_460
    for name, split in (("dialogsum", "train"), ("split.validation", "validation"), ("split.test", "test")):
        counts = sources[name]["counts"]
        assert counts["in"] == counts["kept"] + counts["rejected"] + sum(counts["removed"].values())
        assert counts["kept"] == len(done.shard(split))
        assert done.shard(split).input_lengths.max() <= 512
    assert 6_300 < sources["dialogsum"]["counts"]["kept"] < 6_800
    test = done.rows("test")
    assert all(len(row["references"]) == 2 for row in test), "three summaries, and the first is the completion"
    assert Model(base=str(base)).context is None
