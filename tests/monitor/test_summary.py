"""The numbers of `luthier monitor`, derived by hand from a few requests; the baseline of the test rows; the page."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest

from luthier.core.files import read_json, read_jsonl, write_json
from luthier.core.shards import Shard
from luthier.gateway.page import page, write_page
from luthier.monitor.baseline import keep_baseline, read_baseline
from luthier.monitor.summary import percentiles, summarise
from luthier.monitor.traffic import Feedback, Recorder, opened
from luthier.pipeline.publish import publish
from tests.monitor.test_traffic import shape

NOW = 2_000_000.0
HOUR = 3600.0


@pytest.fixture
def watched(run, tmp_path) -> Path:
    """The finished run, in a folder of its own, with 30 answers, two errors, ratings and two hours of service."""
    folder = tmp_path / "run"
    folder.mkdir()
    for entry in run.iterdir():
        if entry.name != "7-monitor":
            (folder / entry.name).symlink_to(entry)
    recorder = Recorder(folder, lambda n: None)
    keep_baseline(folder)
    baseline = read_baseline(folder)
    for i in range(30):
        length = baseline["prompt_tokens"][i % 8]
        at = NOW - HOUR + 60 * i
        recorder.put(
            shape(i, time=at, model="toy/lora", seconds=(i + 1) / 10, prompt_tokens=length + 40, answer_characters=3)
        )
    recorder.put(shape(100, time=NOW - 100, model="", variant="", weights="", status=404, code="model_not_found"))
    recorder.put(shape(101, time=NOW - 90, model="toy/lora", status=429, code="rate_limit_exceeded", key="anna"))
    recorder.put(shape(102, time=NOW - 8 * 24 * HOUR, model="toy/old"))
    for i, rating in enumerate(("up", "up", "down")):
        recorder.put(Feedback(f"cmpl-{i}", NOW - 60, rating, None, "", "r", "toy/lora", "lora", "w"))
    recorder.close()
    with opened(folder) as connection, connection:
        connection.execute("delete from sessions")
        connection.execute("insert into sessions values ('a', ?, ?)", (NOW - 10 * HOUR, NOW - 9 * HOUR))
        connection.execute("insert into sessions values ('b', ?, ?)", (NOW - HOUR, NOW + 5 * HOUR))
    return folder


def test_the_numbers_are_those_of_the_requests(watched):
    found = summarise(watched, days=7, now=NOW)
    assert (found["requests"], found["answered"]) == (32, 30)
    assert found["errors"] == {"404 model_not_found": 1, "429 rate_limit_exceeded": 1}
    assert found["stop"] == {"stop": 30} and found["keys"] == {"none": 31, "anna": 1}
    assert list(found["models"]) == ["toy/lora"]
    lora = found["models"]["toy/lora"]
    assert (lora["requests"], lora["answered"], lora["up"], lora["down"]) == (31, 30, 2, 1)
    assert lora["seconds"] == pytest.approx({"p50": 1.55, "p90": 2.71, "p99": 2.971})
    assert lora["first_token_seconds"] == {"p50": 0.5, "p90": 0.5, "p99": 0.5}
    assert lora["answer_tokens"] == 31 * 5
    assert found["cost"]["hours"] == pytest.approx(2.0)
    assert found["cost"]["usd"] == pytest.approx(0.2)  # at the recipe's 0.10 an hour
    assert found["cost"]["usd_per_1000_answers"] == pytest.approx(0.2 / 30 * 1000)
    assert found["cost"]["usd_per_million_tokens"] == pytest.approx(0.2 / (32 * 5) * 1e6)
    assert summarise(watched, days=9, now=NOW)["requests"] == 33


def test_the_bars_over_time_hold_every_request(watched):
    for days in (7, 9):
        found = summarise(watched, days, NOW)
        bars, width = found["series"]["bars"], found["series"]["width"]
        assert sum(bar["answered"] for bar in bars) == found["answered"]
        assert sum(bar["errors"] for bar in bars) == found["requests"] - found["answered"]
        assert 2 <= len(bars) <= 50 and all(b["start"] - a["start"] == width for a, b in pairwise(bars))


def test_prompts_that_grew_are_told_from_answers_that_did_not(watched):
    write_json(watched / "7-monitor" / "baseline.json", {
        **read_json(watched / "7-monitor" / "baseline.json"),
        "prompt_tokens": [18, 19, 20, 21] * 10, "answer_characters": {"lora": [3] * 40},
    })  # fmt: skip
    prompt, answer = summarise(watched, 7, NOW)["lengths"]
    assert (prompt["what"], prompt["shifted"], prompt["distance"]) == ("prompt", True, 1.0)
    assert prompt["baseline"]["mean"] == 19.5 and prompt["traffic"]["n"] == 30
    assert (answer["what"], answer["shifted"], answer["distance"], answer["p"]) == ("answer", False, 0.0, 1.0)


def test_too_few_rows_are_not_compared(watched):
    for entry in summarise(watched, 7, NOW)["lengths"]:  # the toy has eight test rows
        assert entry["p"] is None and entry["shifted"] is None and entry["baseline"]["n"] == 8


def test_a_finished_run_has_the_baseline_of_its_test_rows(run):
    found = read_baseline(run)
    shard = Shard(run / "1-data" / "test")
    prompts = [int((shard[i].labels == -100).sum()) for i in range(len(shard))]
    assert sorted(found["prompt_tokens"]) == sorted(prompts) and found["rows"] == 8
    answers = read_jsonl(run / "5-evaluate" / "answers" / "lora.jsonl")
    assert found["answer_characters"]["lora"] == [len(row["answer"].strip()) for row in answers]
    assert set(found["answer_characters"]) == {"base", "full", "lora", "prompt"}


def test_the_baseline_changes_with_the_evaluation_alone(run, watched):
    path = watched / "7-monitor" / "baseline.json"
    found, before = read_baseline(watched), path.stat().st_mtime_ns
    publish(watched, changed=True)
    assert read_baseline(watched) == found == read_baseline(run) and path.stat().st_mtime_ns == before
    lengths = summarise(watched, 7, NOW)["lengths"]
    (watched / "5-evaluate").unlink()  # the monitor asks what was kept, not the evaluation
    assert summarise(watched, 7, NOW)["lengths"] == lengths != []
    (watched / "5-evaluate").symlink_to(run / "5-evaluate")
    write_json(path, {**found, "evaluation": "of another day", "rows": 0})
    publish(watched, changed=False)
    assert read_baseline(watched) == found


def test_percentiles_of_nothing_and_of_one():
    assert percentiles([]) is None and percentiles([2.0]) == {"p50": 2.0, "p90": 2.0, "p99": 2.0}


def test_the_page_holds_all_it_needs_and_asks_for_nothing(watched):
    document = summarise(watched, 7, NOW)
    text = write_page(watched, document).read_text(encoding="utf-8")
    assert "http" not in text.replace("http-equiv", "") and "<script" not in text and "url(" not in text
    charts = [part.partition("</svg>")[0] for part in text.split("<svg")[1:]]
    assert len(charts) == 3
    for chart in charts:
        root = ElementTree.fromstring(f"<svg{chart}</svg>")
        assert root.find("title").text and root.find("desc").text
    bars = document["series"]["bars"]
    drawn = sum(bool(bar[key]) for bar in bars for key in ("answered", "errors", "answer_tokens", "prompt_tokens"))
    assert text.count("<rect") == drawn > 20 and "30</b> of 32 requests" in text


def test_the_page_escapes_what_strangers_wrote(watched):
    document = summarise(watched, 7, NOW)
    evil = "<script>alert(1)</script>"
    document["models"] = {evil: document["models"]["toy/lora"]}
    document["keys"], document["errors"] = {evil: 1}, {evil: 2}
    assert "<script" not in page(evil, document)


def test_a_page_of_no_traffic_says_so(run, tmp_path):
    (tmp_path / "recipe.yaml").symlink_to(run / "recipe.yaml")
    Recorder(tmp_path, lambda n: None).close()
    document = summarise(tmp_path, 7)
    assert document["requests"] == 0 and document["lengths"] == [] and document["series"]["bars"] == []
    assert "of 0 requests" in write_page(tmp_path, document).read_text()
