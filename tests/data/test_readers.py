"""Formats say the same rows, and files that cannot be read say why."""

from __future__ import annotations

import csv
import gzip
import json
import sys
from pathlib import Path

import pytest

from luthier.core.errors import UserError
from luthier.data.readers import BadRow, Row, digests, read
from luthier.data.readers.libraries import Hub, parse_hub
from tests.data.conftest import write_jsonl

ROWS = [
    {"prompt": 'a "quoted", comma', "completion": "two\nlines"},
    {"prompt": "café Łódź", "completion": "semi;colon"},
    {"prompt": "", "completion": "x"},
]


def rows_of(source: object) -> list[dict]:
    found = list(read("data", str(source), seed=0))
    assert all(isinstance(row, Row) for row in found), found
    return [dict(row.values) for row in found if isinstance(row, Row)]


def bad_rows(source: object) -> list[BadRow]:
    return [row for row in read("data", str(source), seed=0) if isinstance(row, BadRow)]


def write_csv(path: Path, delimiter: str = ",") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["prompt", "completion"], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(ROWS)
    return path


def test_every_format_gives_the_same_rows(tmp_path):
    plain = [
        write_jsonl(tmp_path / "a.jsonl", ROWS),
        tmp_path / "b.json",
        tmp_path / "c.json",
        write_csv(tmp_path / "d.csv"),
        write_csv(tmp_path / "e.csv", ";"),
        write_csv(tmp_path / "f.csv", "\t"),
    ]
    plain[1].write_text(json.dumps(ROWS, indent=1))
    plain[2].write_text(json.dumps({"version": {"data": [1]}, "data": ROWS, "more": []}))
    for path in plain:
        zipped = path.with_name(path.name + ".gz")
        zipped.write_bytes(gzip.compress(path.read_bytes()))
        marked = path.with_name("marked-" + path.name)
        marked.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
        assert rows_of(path) == rows_of(zipped) == rows_of(marked) == ROWS, path


def test_the_datasets_library_opens_saved_folders_and_parquet(tmp_path):
    datasets = pytest.importorskip("datasets")
    saved = datasets.Dataset.from_list(ROWS)
    saved.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": saved, "test": saved.select([0])}).save_to_disk(tmp_path / "several")
    saved.to_parquet(tmp_path / "rows.parquet")
    assert rows_of(tmp_path / "one") == rows_of(tmp_path / "several") == ROWS
    assert rows_of(tmp_path / "several" / "test") == ROWS[:1]
    assert rows_of(tmp_path / "rows.parquet") == ROWS
    datasets.DatasetDict({"test": saved}).save_to_disk(tmp_path / "no-train")
    with pytest.raises(UserError, match="holds the splits test: give the folder of one"):
        rows_of(tmp_path / "no-train")


def test_a_folder_is_its_files_in_order(tmp_path):
    write_jsonl(tmp_path / "b.jsonl", ROWS[1:])
    write_jsonl(tmp_path / "a.jsonl", ROWS[:1])
    (tmp_path / "notes.md").write_text("not data")
    assert rows_of(tmp_path) == ROWS
    (tmp_path / "c.txt").write_text("text")
    with pytest.raises(UserError, match=r"holds \.jsonl and \.txt files"):
        rows_of(tmp_path)


def test_rows_know_their_place(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [ROWS[0], "", ROWS[1]])
    origins = [row.origin for row in read("mine", str(path), seed=0)]
    assert [(o.source, o.file, o.row) for o in origins] == [("mine", str(path), 1), ("mine", str(path), 3)]


@pytest.mark.parametrize(
    ("body", "records"),
    [
        ("one\ntwo\n\nthree\n", ["one\ntwo", "three"]),
        ("\n\none\ntwo\n\n", ["one", "two"]),
        ("a\n\nb\n<|endoftext|>\nc\n<|endoftext|>\n", ["a\n\nb", "c"]),
    ],
    ids=["paragraphs", "lines", "end-of-text"],
)
def test_text_records_and_how_they_end_is_said(tmp_path, said, body, records):
    path = tmp_path / "a.txt"
    path.write_text(body)
    assert [row["text"] for row in rows_of(path)] == records
    assert sum("a record is" in message for message in said) == 1


def test_broken_json_on_row_17_names_row_and_column(tmp_path):
    lines = [json.dumps({"prompt": str(i), "completion": "x"}) for i in range(1, 21)]
    lines[16] = '{"prompt": "17", "completion" "x"}'
    (bad,) = bad_rows(write_jsonl(tmp_path / "a.jsonl", lines))
    assert (bad.origin.row, bad.raw) == (17, lines[16])
    assert bad.reason == "broken JSON at column 31: Expecting ':' delimiter"
    whole = tmp_path / "a.json"
    whole.write_text("[" + ",\n".join(lines) + "]")
    with pytest.raises(UserError, match=r"row 17 \(line 17, column 31\): broken JSON: Expecting ':'"):
        rows_of(whole)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1, 2]", "a JSON list, not an object"),
        ('"text"', "a JSON str, not an object"),
        (r'{"a": "\ud83d"}', "half a character"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested too deeply"),
    ],
)
def test_jsonl_rows_that_are_no_rows(tmp_path, line, reason):
    (bad,) = bad_rows(write_jsonl(tmp_path / "a.jsonl", [line, {"a": "😀"}]))
    assert reason in bad.reason and bad.raw == line


def test_csv_rows_with_too_many_or_too_few_fields(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('prompt,completion\n"one\nline",x\na,b,c\n\nd\ne,"f"g\nh,i\n')
    found = list(read("data", str(path), seed=0))
    assert [row.origin.row for row in found] == [1, 2, 3, 4, 5]
    bad = [row for row in found if isinstance(row, BadRow)]
    assert [row.raw for row in bad] == ["a,b,c", "d", 'e,"f"g']
    assert "too many fields on line 4: 3 where the header has 2" in bad[0].reason
    assert "too few fields on line 6: 1 where the header has 2" in bad[1].reason
    assert "broken CSV on line 7" in bad[2].reason


def test_a_csv_quote_never_closed_does_not_swallow_rows(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,2\n3,"4\n5,6\n')
    with pytest.raises(UserError, match=r"row 2 \(line 3\): a quote is opened and never closed"):
        rows_of(path)


def test_csv_headers(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a,b,a\n1,2,3\n")
    with pytest.raises(UserError, match="names the column 'a' twice"):
        rows_of(path)
    path.write_text("\n1,2\n")
    with pytest.raises(UserError, match="line 1 is blank: write the names of the columns"):
        rows_of(path)


def test_wrong_encodings_name_row_and_byte_and_the_way_out(tmp_path):
    text = '{"a": "one"}\n{"a": "café"}\n'
    path = tmp_path / "a.jsonl"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(
        UserError, match=r"row 2, byte 23 \(0xE9\): not UTF-8; it looks like ISO-8859-1.*iconv -f ISO"
    ):
        rows_of(path)
    path.write_bytes("{“}".encode("cp1252"))
    with pytest.raises(UserError, match="it looks like WINDOWS-1252"):
        rows_of(path)
    path.write_bytes(text.encode("utf-16"))
    with pytest.raises(UserError, match="row 1, byte 0: UTF-16, not UTF-8; save it as UTF-8: iconv -f UTF-16"):
        rows_of(path)
    for encoding in ("utf-16-le", "utf-16-be"):
        path.write_bytes(text.encode(encoding))
        with pytest.raises(UserError, match=f"it looks like {encoding.upper().replace('-16-', '-16')}"):
            rows_of(path)
    path.write_bytes(b"\x89PNG\r\x1a\x00data")
    with pytest.raises(UserError, match="a NUL byte; it is not text"):
        rows_of(path)


def test_files_that_are_not_there_or_hold_nothing(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    with pytest.raises(UserError, match=r"there is no file .*row\.jsonl: did you mean '.*rows.jsonl'"):
        rows_of(tmp_path / "row.jsonl")
    with pytest.raises(UserError, match=r"the folder .*nowhere does not exist either"):
        rows_of(tmp_path / "nowhere" / "row.jsonl")
    (tmp_path / "rows.xlsx").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"rows\.xlsx is of no known format: expected \.jsonl"):
        rows_of(tmp_path / "rows.xlsx")
    for name in ("empty.jsonl", "empty.json", "empty.csv", "empty.txt"):
        (tmp_path / name).touch()
        with pytest.raises(UserError, match=f"{name} is empty"):
            rows_of(tmp_path / name)
    for name, body in (("a.jsonl", "\n\n"), ("a.json", "[]"), ("a.csv", "a,b\n"), ("a.txt", "\n \n")):
        (tmp_path / name).write_text(body)
        with pytest.raises(UserError, match=f"{name} holds no rows"):
            rows_of(tmp_path / name)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="nothing holds no rows: put"):
        rows_of(tmp_path / "nothing")


def test_damaged_gzip(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"a": "b"}\n' * 10_000)[:-20])
    with pytest.raises(UserError, match="damaged gzip"):
        rows_of(path)
    path.write_text('{"a": "b"}\n')
    with pytest.raises(UserError, match=r"ends in \.gz but is not gzip"):
        rows_of(path)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ('{"a": 1}\n{"a": 2}\n', "several JSON values: if it is one object a line, name it .jsonl"),
        ('{"rows": []}', "its keys are rows"),
        ('{"data": [1', "line 1, column 12: broken JSON"),
        ("3", "holds no rows: write a list of objects"),
    ],
)
def test_json_files_of_another_shape(tmp_path, body, sentence):
    (tmp_path / "a.json").write_text(body)
    with pytest.raises(UserError, match=r"a\.json") as caught:
        rows_of(tmp_path / "a.json")
    assert sentence in str(caught.value)


def test_variables_in_sources(tmp_path, monkeypatch):
    write_jsonl(tmp_path / "a.jsonl", ROWS)
    monkeypatch.setenv("SOME_DATA", str(tmp_path))
    assert rows_of("${SOME_DATA}/a.jsonl") == rows_of("$SOME_DATA/a.jsonl") == ROWS
    monkeypatch.setenv("HOME", str(tmp_path))
    assert rows_of("~/a.jsonl") == ROWS
    monkeypatch.delenv("SOME_DATA")
    with pytest.raises(UserError, match="environment variable SOME_DATA, which is not set"):
        rows_of("${SOME_DATA}/a.jsonl")


def test_digests_change_with_the_content_only(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", ROWS)
    before = digests(str(path), seed=0)
    path.touch()
    assert digests(str(path), seed=1) == before
    path.write_text(path.read_text() + "\n")
    assert digests(str(path), seed=0) != before


def test_hub_ids_are_told_from_paths(tmp_path, monkeypatch):
    assert parse_hub("owner/name") == Hub("owner/name", None, None, "train")
    assert parse_hub("owner/name:test") == Hub("owner/name", None, None, "test")
    assert parse_hub("owner/name@v1.2:main:test") == Hub("owner/name", "v1.2", "main", "test")
    assert parse_hub("data/rows.jsonl") is parse_hub("./a/b") is parse_hub("rows") is None
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner" / "name").mkdir(parents=True)
    assert parse_hub("owner/name") is None


def test_a_hub_that_gives_nothing(monkeypatch):
    pytest.importorskip("datasets")
    with pytest.raises(UserError, match="the hub gave no rows for 'nobody-at-all/nothing'"):
        rows_of("nobody-at-all/nothing")


def write_parquet(path: Path, rows: list[dict], rows_per_group: int = 2) -> Path:
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist(rows), path, row_group_size=rows_per_group)
    return path


def test_parquet_gives_the_same_rows_whatever_its_groups(tmp_path):
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    rows = [{"number": i, "text": f"café {i}", "none": None, "messages": turns} for i in range(3000)]
    found = list(read("data", str(write_parquet(tmp_path / "a.parquet", rows, 700)), seed=0))
    assert [dict(row.values) for row in found if isinstance(row, Row)] == rows
    assert [row.origin.row for row in found] == list(range(1, 3001))


def test_parquet_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.parquet"
    path.write_text("prompt,completion\n")
    with pytest.raises(UserError, match=r"a\.parquet cannot be read as Parquet: .*: copy or download it again"):
        rows_of(path)
    whole = write_parquet(path, ROWS).read_bytes()
    path.write_bytes(whole[:20] + b"\xff" * 30 + whole[50:])
    with pytest.raises(UserError, match=r"a\.parquet cannot be read as Parquet"):
        rows_of(path)
    with pytest.raises(UserError, match="holds no rows"):
        rows_of(write_parquet(tmp_path / "b.parquet", ROWS[:0]))


def test_what_to_install_for_parquet(tmp_path, monkeypatch):
    path = write_parquet(tmp_path / "a.parquet", ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)  # as if it were not installed
    with pytest.raises(UserError, match=r'needs the library pyarrow: pip install "luthier\[datasets\]"'):
        rows_of(path)
