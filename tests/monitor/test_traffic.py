"""Records reach the disk in their order, none is lost unsaid, and a run's traffic survives what befalls a file."""

from __future__ import annotations

import sqlite3
import threading
import time

import pytest

from luthier.core.errors import UserError
from luthier.monitor import traffic
from luthier.monitor.read import read_traffic
from luthier.monitor.traffic import Feedback, Recorder, Shape, database, find_answer, opened


def shape(i: int, **values) -> Shape:
    base = {
        "id": f"cmpl-{i}",
        "time": 1000.0 + i,
        "model": "m",
        "variant": "lora",
        "weights": "w",
        "kind": "completion",
    }
    told = {"status": 200, "code": "", "stop": "stop", "streamed": False, "key": ""}
    sizes = {"prompt_tokens": 10, "answer_tokens": 5, "answer_characters": 20}
    times = {"seconds": 1.0, "first_token_seconds": 0.5}
    return Shape(**{**base, **told, **sizes, **times, **values})


def test_what_is_put_is_there_after_the_end_in_its_order(tmp_path):
    lost = []
    recorder = Recorder(tmp_path, lost.append)
    written = [shape(i) for i in range(1000)]
    for record in written:
        recorder.put(record)
    recorder.put(Feedback("cmpl-3", 2000.0, "up", None, "anna", "run", "m", "lora", "w"))
    recorder.close()
    found = read_traffic(tmp_path, 0, 3000)
    assert found.requests == written and not lost
    assert [rating.id for rating in found.feedback] == ["cmpl-3"]
    assert find_answer(tmp_path, "cmpl-3") == ("m", "lora", "w") and find_answer(tmp_path, "cmpl-x") is None
    assert read_traffic(tmp_path, 1010, 1019).requests == written[10:20]


def test_putting_never_waits_for_the_disk(tmp_path):
    recorder = Recorder(tmp_path, lambda n: None)
    with opened(tmp_path) as other:
        other.execute("begin immediate")  # the writer has to wait
        start = time.perf_counter()
        for i in range(500):
            recorder.put(shape(i))
        took = time.perf_counter() - start
        other.execute("rollback")
    recorder.close()
    assert took / 500 < 1e-3
    assert len(read_traffic(tmp_path, 0, 3000).requests) == 500


def test_what_cannot_be_kept_is_counted(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(traffic, "HELD", 10)
    lost, entered, released = [], threading.Event(), threading.Event()
    write = Recorder._write

    def stuck(self, connection, records):
        entered.set()
        released.wait(10)
        write(self, connection, records)

    monkeypatch.setattr(Recorder, "_write", stuck)
    recorder = Recorder(tmp_path, lost.append)
    recorder.put(shape(0))
    assert entered.wait(10)
    for i in range(1, 31):
        recorder.put(shape(i))
    released.set()
    recorder.close()
    assert sum(lost) == 20 and len(read_traffic(tmp_path, 0, 3000).requests) == 11


def test_a_disk_that_refuses_is_said_once_and_counted(tmp_path, monkeypatch, caplog):
    def refuse(self, connection, records):
        raise sqlite3.OperationalError("database or disk is full")

    lost = []
    monkeypatch.setattr(Recorder, "_write", refuse)
    monkeypatch.setattr(traffic, "BATCH", 1)
    recorder = Recorder(tmp_path, lost.append)
    for i in range(5):
        recorder.put(shape(i))
    recorder.close()
    assert sum(lost) == 5
    assert [record.getMessage() for record in caplog.records].count(caplog.messages[0]) == 1
    assert "disk is full" in caplog.messages[0]


def test_a_session_tells_how_long_the_server_was_up(tmp_path, monkeypatch):
    monkeypatch.setattr(traffic, "BEAT", 0.05)
    before = time.time()
    recorder = Recorder(tmp_path, lambda n: None)
    time.sleep(0.4)
    recorder.close()
    ((start, end),) = read_traffic(tmp_path, 0, before + 100).sessions
    assert start == pytest.approx(before, abs=0.3) and 0.2 < end - start < 2


def test_no_traffic_and_damaged_traffic_are_told(tmp_path):
    with pytest.raises(UserError, match="luthier serve"):
        read_traffic(tmp_path, 0, 1)
    database(tmp_path).parent.mkdir()
    database(tmp_path).write_bytes(b"not a database" * 1000)
    with pytest.raises(UserError, match="damaged"):
        read_traffic(tmp_path, 0, 1)
