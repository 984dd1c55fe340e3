"""The shipped recipes over real data, cut to a few rows."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import luthier

RECIPES = Path(__file__).parents[2] / "recipes"
SPLITS = ("train", "validation", "test")


def cut_dialogsum(data_folder: Path, folder: Path, rows: Mapping[str, int]) -> list[str]:
    """The first rows of DialogSum's splits (train, dev, test) in files of their own; the overrides that name them."""
    for split, count in rows.items():
        with (data_folder / "dialogsum" / f"dialogsum.{split}.jsonl").open(encoding="utf-8") as file:
            (folder / f"{split}.jsonl").write_text("".join(islice(file, count)), encoding="utf-8")
    return [
        f"data.sources.dialogsum.source={folder / 'train.jsonl'}",
        f"data.split.validation={folder / 'dev.jsonl'}",
        f"data.split.test={folder / 'test.jsonl'}",
    ]


def run(recipe: str, out: Path, *overrides: str) -> dict[str, Any]:
    """Run a shipped recipe and return its document."""
    return luthier.run(RECIPES / recipe, *overrides, out=out).document


def lines(path: Path) -> list[dict[str, Any]]:
    """The JSON values of a file, one a line."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def assert_accounted(document: Mapping[str, Any], rows: Mapping[str, int]) -> None:
    """Each row of the files lies in a split, or is named with its reason: none twice, none nowhere, none new."""
    folder = Path(document["out"]) / "1-data"
    counts = document["stages"]["data"]["counts"]
    kept = [line["origin"] for split in SPLITS for line in lines(folder / split / "rows.jsonl")]
    rejected, removed = lines(folder / "rejected.jsonl"), lines(folder / "removed.jsonl")
    assert (len(kept), len(rejected)) == (counts["kept"], counts["rejected"])
    assert Counter(line["setting"] for line in removed) == counts["removed"]
    places = Counter((Path(line["file"]).stem, line["row"]) for line in [*kept, *rejected, *removed])
    assert places == {(split, row): 1 for split, count in rows.items() for row in range(1, count + 1)}
