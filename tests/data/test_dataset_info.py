"""LLaMA-Factory's `dataset_info.json`: its entries are read as it reads them, or refused with what to do instead."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from luthier.core.errors import UserError
from luthier.data.readers import digests, entry_of, read
from tests.data.conftest import make_base, pairs, write_jsonl

INFO = "dataset_info.json"
TALK = [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "good day"}]
OPENAI_TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}


@pytest.fixture
def describe(tmp_path: Path) -> Callable[..., str]:
    """Writes rows and an entry that describes them; gives the source that names it."""

    def write(rows: list[dict], **entry: Any) -> str:
        (tmp_path / "rows.json").write_text(json.dumps(rows))
        (tmp_path / INFO).write_text(json.dumps({"mine": {"file_name": "rows.json", **entry}, "other": entry}))
        return f"{tmp_path / INFO}:mine"

    return write


def records(stage, source: str, **data: Any) -> list[dict[str, Any]]:
    return stage(sources=source, duplicates="keep", **data).rows()


def test_alpaca_is_the_default_and_a_folder_serves_too(describe, stage, tmp_path, said):
    rows = [{"instruction": "Add", "input": "1 2", "output": "3", "system": "not told of, so not read"}]
    source = describe(rows)
    (one,) = records(stage, source)
    assert (one["prompt"], one["completion"]) == ("Add\n\n1 2", "3")
    assert any("read as alpaca, because dataset_info.json says so" in message for message in said)
    (other,) = records(stage, f"{tmp_path}:mine")
    assert other["id"] == one["id"]


def test_alpaca_columns(describe, stage):
    rows = [{"q": "Add", "more": "1 2", "a": "3", "sys": "s", "past": [["x", "y"]], "input": "not told of"}]
    names = {"prompt": "q", "query": "more", "response": "a", "system": "sys", "history": "past"}
    (one,) = records(stage, describe(rows, columns=names))
    said = [(m["role"], m["content"]) for m in one["messages"]]
    assert said == [("system", "s"), ("user", "x"), ("assistant", "y"), ("user", "Add\n\n1 2"), ("assistant", "3")]
    (one,) = records(stage, describe(rows, columns={"prompt": "q", "response": "a"}))
    assert one["prompt"] == "Add", "where columns are written, a column called 'input' is none of them"


def test_a_prompt_without_a_response_is_running_text(describe, stage):
    (one,) = records(stage, describe([{"body": "once upon a time"}], columns={"prompt": "body"}))
    assert (one["kind"], one["text"]) == ("text", "once upon a time")


def test_sharegpt_and_its_tags(describe, stage):
    (one,) = records(stage, describe([{"conversations": TALK}], formatting="sharegpt"))
    turns = [{"who": "me", "what": "hello"}, {"who": "bot", "what": "good day"}]
    tags = {"role_tag": "who", "content_tag": "what", "user_tag": "me", "assistant_tag": "bot"}
    entry = {"formatting": "sharegpt", "columns": {"messages": "talk"}, "tags": tags}
    (two,) = records(stage, describe([{"talk": turns}], **entry))
    turns = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "good day"}]
    entry = {"formatting": "sharegpt", "columns": {"messages": "messages"}, "tags": OPENAI_TAGS}
    (three,) = records(stage, describe([{"messages": turns}], **entry))
    (four,) = records(stage, describe([{"messages": turns}], formatting="openai"))
    assert [r["messages"] for r in (two, three, four)] == [one["messages"]] * 3


def test_a_recipes_columns_and_prompt_serve_beside_it(describe, stage):
    rows = [{"q": "Add", "a": "3", "b": "4"}]
    source = describe(rows, columns={"prompt": "q", "response": "a"})
    (one,) = records(stage, source, columns={"output": "b"}, prompt="Do: {q}")
    assert (one["prompt"], one["completion"]) == ("Do: Add", "4")


def test_num_samples_is_counted_like_rows(describe, stage):
    rows = [{"instruction": r["prompt"], "output": r["completion"]} for r in pairs(5)]
    source = describe(rows, num_samples=3)
    assert stage(sources=source).counts.to_json() == {"in": 5, "kept": 3, "rejected": 0, "removed": {"rows": 2}}
    own = stage(sources={"a": {"source": source, "rows": 4}})
    assert own.counts.kept == 4, "the recipe's own word counts more"


def test_a_split_can_be_an_entry(describe, stage, tmp_path):
    rows = [{"instruction": r["prompt"], "output": r["completion"]} for r in pairs(5)]
    done = stage(sources=str(write_jsonl(tmp_path / "train.jsonl", pairs(9)[5:])), split={"test": describe(rows)})
    assert len(done.rows("test")) == 5 and len(done.rows()) > 0


def test_a_changed_entry_is_another_source(describe):
    source = describe([{"a": "1", "b": "2"}], columns={"prompt": "a", "response": "b"})
    before = digests(source, seed=0)
    assert digests(source, seed=1) == before and len(before) == 2
    describe([{"a": "1", "b": "2"}], columns={"prompt": "b", "response": "a"})
    after = digests(source, seed=0)
    assert [key for key in before if before[key] != after[key]] == [source]


def test_a_set_on_the_hub_is_opened_there(tmp_path):
    hub = {"hf_hub_url": "owner/name", "ms_hub_url": "other/name"}
    entries = {"a": hub, "b": hub | {"split": "test"}, "c": hub | {"subset": "en"}, "d": hub | {"revision": "v1"}}
    (tmp_path / INFO).write_text(json.dumps(entries))
    places = [entry.place for name in "abcd" if (entry := entry_of(f"{tmp_path}:{name}")) is not None]
    assert places == ["owner/name:train", "owner/name:test", "owner/name:en:train", "owner/name@v1:train"]


@pytest.mark.parametrize(
    ("entry", "sentence"),
    [
        ({"colums": {}}, "mine has the unknown key 'colums': did you mean 'columns'?"),
        ({"formatting": "chatml"}, "the formatting 'chatml' is unknown: write alpaca, sharegpt or openai"),
        ({"columns": {"promt": "a"}}, "columns has the unknown key 'promt': did you mean 'prompt'?"),
        ({"columns": {"prompt": 3}}, "columns is not an object of texts"),
        ({"columns": {"prompt": "a", "query": "b"}}, "columns has no response: name the answer's column"),
        ({"formatting": "sharegpt", "columns": {"prompt": "a"}}, "columns has the unknown key 'prompt'"),
        ({"formatting": "sharegpt", "tags": {"user": "a"}}, "tags has the unknown key 'user'"),
        ({"ranking": True}, "holds preferences (ranking), which no objective learns from yet"),
        ({"columns": {"images": "i"}}, "holds pictures (columns.images), which Luthier does not learn from yet"),
        ({"columns": {"kto_tag": "i"}}, "holds feedback (columns.kto_tag)"),
        ({"num_samples": 0}, "num_samples is 0: write a number of rows"),
        ({"file_name": "row.json"}, "there is no file"),
        ({"file_name": "../rows.json"}, "file_name ../rows.json leaves the folder"),
        ({"file_name": "/etc/rows.json"}, "file_name /etc/rows.json leaves the folder"),
        ({"file_name": 3}, "file_name is not text"),
        ({"script_url": "s"}, "is kept under script_url s, which Luthier does not open: download its files beside"),
        ({"ms_hub_url": "a/b"}, "is kept under ms_hub_url a/b"),
        ({"hf_hub_url": "a/b", "folder": "f"}, "is kept under hf_hub_url a/b"),
        ({"hf_hub_url": "wiki_qa"}, "is kept under hf_hub_url wiki_qa"),
        ({"columns": {"prompt": "q", "response": "a"}}, "dataset_info.json reads a column 'q', which"),
        ({"formatting": "sharegpt"}, "dataset_info.json reads a column 'conversations', which"),
    ],
)
def test_entries_that_cannot_be_read(describe, stage, entry, sentence):
    with pytest.raises(UserError) as caught:
        records(stage, describe([{"instruction": "a", "output": "b"}], **entry))
    assert sentence in str(caught.value)


def test_names_that_are_not_there(describe, stage, tmp_path):
    source = describe([{"instruction": "a", "output": "b"}])
    with pytest.raises(UserError, match=r"dataset_info.json has no entry 'mein': did you mean 'mine'\?"):
        records(stage, f"{tmp_path}:mein")
    for place in (tmp_path, tmp_path / INFO):
        with pytest.raises(
            UserError, match=r"describes several sets of rows: name one, such as .*dataset_info.json:mine"
        ):
            records(stage, str(place))
    with pytest.raises(UserError, match=r"there is no file .*nowhere/dataset_info.json"):
        records(stage, f"{tmp_path}/nowhere/{INFO}:mine")
    with pytest.raises(UserError, match=r"data\.layout: messages, but dataset_info.json describes .* as alpaca"):
        records(stage, source, layout="messages")
    (tmp_path / INFO).write_text("{")
    with pytest.raises(UserError, match="cannot be read as JSON"):
        records(stage, source)
    (tmp_path / INFO).write_text('{"features": {}}')
    with pytest.raises(UserError, match="has no entries of LLaMA-Factory's"):
        records(stage, source)
    assert entry_of(str(tmp_path)) is None, "the file of another program"


@pytest.mark.data
def test_llama_factorys_own_entries(data_folder):
    """Each of its local sets is read to the last row, or refused for a reason."""
    folder = data_folder / "llamafactory_demo"
    counts, refused = {}, {}
    for name in json.loads((folder / INFO).read_text()):
        try:
            entry = entry_of(f"{folder}:{name}")
        except UserError as error:
            refused[name] = str(error)
            continue
        assert entry is not None
        if entry.body.get("file_name") and Path(entry.place).exists():
            counts[name] = sum(1 for _ in read("a", f"{folder}:{name}", seed=0))
    known = {"identity": 91, "alpaca_en_demo": 999, "glaive_toolcall_en_demo": 300, "wiki_demo": 30, "c4_demo": 300}
    assert counts == known
    assert all(
        any(
            why in reason
            for why in ("ranking", "pictures", "sounds", "videos", "feedback", "no file", "is kept under")
        )
        for reason in refused.values()
    ), refused


@pytest.mark.data
@pytest.mark.parametrize(("name", "rows"), [("identity", 91), ("glaive_toolcall_en_demo", 300)])
def test_every_row_of_llama_factorys_demo_is_kept(data_folder, stage, tmp_path, name, rows):
    base = make_base(tmp_path / "chat", tools=True)
    config = base / "config.json"
    config.write_text(config.read_text().replace("4096", "20000"))
    done = stage(
        context=20_000,
        on=base,
        sources=f"{data_folder / 'llamafactory_demo'}:{name}",
        duplicates="keep",
        near_duplicates="off",
        max_rejected=0,
    )
    assert done.counts.to_json() == {"in": rows, "kept": rows, "rejected": 0, "removed": {}}
    if name.startswith("glaive"):
        calls = sum(len(message.get("calls", ())) for row in done.rows() for message in row["messages"])
        assert calls == 211 and sum(len(row["tools"]) for row in done.rows() if "tools" in row) > 200
