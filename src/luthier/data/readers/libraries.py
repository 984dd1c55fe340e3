"""Rows that the optional libraries `datasets` and `pyarrow` open: saved folders, hub ids, parquet files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from luthier.core.errors import UserError
from luthier.data.readers.row import Found

BATCH = 1024  # rows of a Parquet file that are in memory at a time

_HUB = re.compile(
    r"(?P<id>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?"
    r"(:(?P<first>[\w.-]+))?(:(?P<second>[\w.-]+))?"
)
_FILE = re.compile(r"\.(jsonl|json|csv|txt|parquet)(\.gz)?$")


@dataclass(frozen=True)
class Hub:
    """`owner/name[@revision][:config][:split]`; the split is `train` where none is written."""

    id: str
    revision: str | None
    config: str | None
    split: str


def parse_hub(place: str) -> Hub | None:
    """The hub id that a source spells, or None where it spells a path."""
    match = _HUB.fullmatch(place)
    if match is None or _FILE.search(place) or Path(place).exists():
        return None
    first, second = match["first"], match["second"]
    config, split = (first, second) if second else (None, first)
    return Hub(match["id"], match["revision"], config, split or "train")


def is_hub_id(place: str) -> bool:
    """Whether the source is to be fetched from the hub."""
    return parse_hub(place) is not None


def _library(name: str, place: object) -> Any:
    try:
        return import_module(name)
    except ImportError:
        what = name.split(".")[0]
        raise UserError(f'{place} needs the library {what}: pip install "luthier[datasets]"') from None


def read_hub(place: str) -> Iterator[Found]:
    """The rows of one split on the hub, or of its cache on this machine."""
    hub = parse_hub(place)
    assert hub is not None
    datasets = _library("datasets", place)
    try:
        rows = datasets.load_dataset(hub.id, hub.config, split=hub.split, revision=hub.revision)
    except (OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0]
        raise UserError(
            f"the hub gave no rows for '{place}': {reason}; write owner/name, owner/name:split or "
            "owner/name:config:split, or the path of a file"
        ) from None
    return enumerate(rows, 1)


def hub_revision(place: str) -> str:
    """The commit that a hub id stands for now; what the recipe says where the hub cannot be asked."""
    hub = parse_hub(place)
    assert hub is not None
    api = _library("huggingface_hub", place)
    try:
        return str(api.HfApi().dataset_info(hub.id, revision=hub.revision).sha)
    except (OSError, ValueError):  # offline, or unknown there: reading will say so
        return hub.revision or "unknown revision"


def is_saved_dataset(path: Path) -> bool:
    """Whether the folder was written by `save_to_disk` of the `datasets` library."""
    return any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))


def read_saved(path: Path) -> Iterator[Found]:
    """The rows of a folder that `save_to_disk` wrote; of several splits, `train`."""
    rows = _library("datasets", path).load_from_disk(str(path))
    if hasattr(rows, "keys"):
        if "train" not in rows:
            raise UserError(f"{path} holds the splits {', '.join(rows)}: give the folder of one, {path}/<split>")
        rows = rows["train"]
    return enumerate(rows, 1)


def read_parquet(path: Path) -> Iterator[Found]:
    """The rows of a Parquet file, a batch in memory at a time."""
    parquet = _library("pyarrow.parquet", path)
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH):
                for values in batch.to_pylist():
                    number += 1
                    yield number, values
    except (OSError, ValueError) as error:
        after = f" after row {number}" if number else ""
        reason = str(error).strip().split("\n")[0]
        raise UserError(f"{path} cannot be read as Parquet{after}: {reason}: copy or download it again") from None
