"""LLaMA-Factory's `dataset_info.json`: `folder/dataset_info.json:name` (or `folder:name`) is a source.

An entry says where its rows are (`file_name`, or `hf_hub_url` on the hub) and how they are laid out (`formatting`,
`columns`, `tags`). Its words are turned into Luthier's: https://github.com/hiyouga/LLaMA-Factory, data/README.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.core.errors import UserError, did_you_mean
from luthier.core.paths import expand
from luthier.data.readers.decode import lines
from luthier.data.readers.libraries import is_saved_dataset, parse_hub
from luthier.data.turns import CALL, OPENAI, SHAREGPT, Spelling

NAME = "dataset_info.json"
PLACES = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "cloud_file_name", "file_name")
KEYS = (*PLACES, "formatting", "ranking", "subset", "split", "folder", "revision", "num_samples", "columns", "tags")
ALPACA = {
    "prompt": "instruction",
    "query": "input",
    "response": "output",
    "history": "history",
    "system": "system",
    "tools": "tools",
}
CONVERSATION = {"messages": "messages", "system": "system", "tools": "tools"}
UNREAD = {
    "images": "pictures",
    "videos": "videos",
    "audios": "sounds",
    "chosen": "preferences",
    "rejected": "preferences",
    "kto_tag": "feedback",
}
ROLES = {
    "user_tag": ("human", "user"),
    "assistant_tag": ("gpt", "assistant"),
    "observation_tag": ("observation", "tool"),
    "function_tag": ("function_call", CALL),
    "system_tag": ("system", "system"),
}  # the tag -> how a turn is marked where the entry does not say, and the role it stands for


@dataclass(frozen=True)
class Entry:
    """One entry: `place` is a source as a recipe writes it, `columns` gives Luthier's names the rows' own."""

    place: str
    layout: str
    columns: Mapping[str, str]
    turns: Spelling
    rows: int | None
    body: Mapping[str, Any]


def entry_of(source: str) -> Entry | None:
    """The entry that a source names, or None where it names no `dataset_info.json`.

    Raises UserError for an entry that is not there, or that holds what Luthier cannot open or learn from.
    """
    place = expand(source)
    found = _split(place)
    if found is None:
        return None
    file, name = found
    entries = _entries(file)
    if name not in entries:
        raise UserError(f"{file} has no entry '{name}': {did_you_mean(name, entries)}")
    where, body = f"{file}: {name}", entries[name]
    _check_keys(where, body, KEYS)
    if body.get("ranking"):
        raise UserError(
            f"{where} holds preferences (ranking), which no objective learns from yet: name another entry"
        )
    columns, layout = _columns(where, body)
    rows = body.get("num_samples")
    if rows is not None and (not isinstance(rows, int) or rows < 1):
        raise UserError(f"{where}: num_samples is {rows!r}: write a number of rows")
    return Entry(_place(where, file, body), layout, columns, _turns(where, body), rows, body)


def _split(place: str) -> tuple[Path, str] | None:
    """The file and the entry's name that a place spells."""
    head, _, name = place.rpartition(":")
    if Path(head).name == NAME or (head and (Path(head) / NAME).is_file()):
        return Path(head) if Path(head).name == NAME else Path(head) / NAME, name
    file = Path(place) if Path(place).name == NAME else Path(place) / NAME
    if file.is_file() and not is_saved_dataset(file.parent) and (names := _names(_json(file))):
        raise UserError(f"{file} describes several sets of rows: name one, such as {file}:{names[0]}")
    return None


def _json(file: Path) -> Any:
    try:
        return json.loads("".join(lines(file)))
    except FileNotFoundError:
        raise UserError(f"there is no file {file}") from None
    except (json.JSONDecodeError, RecursionError) as error:
        raise UserError(f"{file} cannot be read as JSON: {error}") from None


def _names(body: Any) -> list[str]:
    """The names of the entries; none in a file of this name that another program wrote for another purpose."""
    entries = body.items() if isinstance(body, dict) else ()
    return [name for name, entry in entries if isinstance(entry, dict) and any(key in entry for key in PLACES)]


def _entries(file: Path) -> Mapping[str, Mapping[str, Any]]:
    body = _json(file)
    names = _names(body)
    if not names:
        raise UserError(f'{file} has no entries of LLaMA-Factory\'s: write {{"name": {{"file_name": "rows.json"}}}}')
    return {name: body[name] for name in names}


def _check_keys(where: str, body: Mapping[str, Any], known: Collection[str]) -> None:
    for key in body:
        if key not in known:
            raise UserError(f"{where} has the unknown key '{key}': {did_you_mean(key, known)}")


def _table(where: str, body: Mapping[str, Any], key: str) -> dict[str, str]:
    """The texts under `columns` or `tags`; what is null is not there."""
    value = body.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(text, str | None) for text in value.values()):
        raise UserError(f"{where}: {key} is not an object of texts")
    return {name: text for name, text in value.items() if text is not None}


def _columns(where: str, body: Mapping[str, Any]) -> tuple[dict[str, str], str]:
    """Luthier's names of the columns with the rows' own, and the layout."""
    formatting, written = body.get("formatting") or "alpaca", _table(where, body, "columns")
    for name in written:
        if name in UNREAD:
            raise UserError(f"{where} holds {UNREAD[name]} (columns.{name}), which Luthier does not learn from yet")
    if formatting == "alpaca":
        _check_keys(f"{where}: columns", written, ALPACA)
        return _alpaca(where, written)
    if formatting not in ("sharegpt", "openai"):
        raise UserError(f"{where}: the formatting {formatting!r} is unknown: write alpaca, sharegpt or openai")
    _check_keys(f"{where}: columns", written, CONVERSATION)
    default = "messages" if formatting == "openai" else "conversations"
    layout = "messages" if _turns(where, body).role == OPENAI.role else "sharegpt"
    return {"messages": default, **{CONVERSATION[name]: own for name, own in written.items()}}, layout


def _alpaca(where: str, written: Mapping[str, str]) -> tuple[dict[str, str], str]:
    """As LLaMA-Factory reads them: the columns written are all there are; without a response it is running text."""
    if not written:
        return {"instruction": "instruction", "input": "input", "output": "output"}, "alpaca"
    if "response" in written:
        return {ALPACA[name]: own for name, own in written.items()}, "alpaca"
    if [*written] != ["prompt"]:
        raise UserError(f"{where}: columns has no response: name the answer's column, or the prompt alone for text")
    return {"text": written["prompt"]}, "text"


def _turns(where: str, body: Mapping[str, Any]) -> Spelling:
    """How the entry's turns are written, by its tags."""
    written = _table(where, body, "tags")
    _check_keys(f"{where}: tags", written, ("role_tag", "content_tag", *ROLES))
    default = OPENAI if body.get("formatting") == "openai" else SHAREGPT
    role, content = written.get("role_tag", default.role), written.get("content_tag", default.content)
    roles = {written.get(tag, usual): ours for tag, (usual, ours) in ROLES.items()}
    return Spelling(role, content, {**OPENAI.roles, **roles} if role == OPENAI.role else roles)


def _place(where: str, file: Path, body: Mapping[str, Any]) -> str:
    """What holds the rows, as a source is written."""
    key = next(key for key in PLACES if key in body)
    written = body[key]
    if not isinstance(written, str):
        raise UserError(f"{where}: {key} is not text")
    if key == "hf_hub_url" and not body.get("folder"):
        revision = f"@{body['revision']}" if body.get("revision") else ""
        parts = [written + revision, body.get("subset"), body.get("split") or "train"]
        place = ":".join(str(part) for part in parts if part)
        if parse_hub(place) is not None:
            return place
    if key != "file_name":
        raise UserError(
            f"{where} is kept under {key} {written}, which Luthier does not open: download its files beside "
            f"{file.name} and write file_name instead"
        )
    return str(_local(where, file.parent, written))


def _local(where: str, folder: Path, written: str) -> Path:
    """The file or folder of this name below the one that holds `dataset_info.json`."""
    name = os.path.normpath(written)
    if os.path.isabs(name) or name.split(os.sep)[0] == os.pardir:
        raise UserError(f"{where}: file_name {written} leaves the folder {folder}: put it, or a link to it, there")
    path = folder / name
    if not path.exists():
        others = [p.name for p in folder.iterdir()] if folder.is_dir() else []
        raise UserError(f"{where}: there is no file {path}: {did_you_mean(written, others)}")
    return path
