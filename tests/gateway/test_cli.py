"""The verbs `serve`, `keys` and `monitor`: what they print, and what they say to wrong input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import pytest

from luthier.cli.app import invoke
from luthier.gateway.server import is_loopback
from luthier.monitor.traffic import Recorder
from tests.monitor.test_traffic import shape


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("LUTHIER_STATE", str(tmp_path))


def said(capsys, *arguments: str) -> tuple[int, dict]:
    capsys.readouterr()
    code = invoke([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_keys_are_made_listed_and_revoked(capsys, tmp_path):
    assert said(capsys, "keys")[1] == {"keys": [], "file": str(tmp_path / "keys.json")}
    code, made = said(capsys, "keys", "--new", "anna")
    assert code == 0 and made["name"] == "anna" and made["key"].startswith("lt-")
    (listed,) = said(capsys, "keys")[1]["keys"]
    assert listed["name"] == "anna" and made["key"].startswith(listed["begins"]) and "sha256" not in listed
    code, refused = said(capsys, "keys", "--new", "anna")
    assert code == 2 and "revoke it" in refused["error"]["message"]
    assert said(capsys, "keys", "--new", "b", "--revoke", "anna")[0] == 2
    assert said(capsys, "keys", "--revoke", "anna")[1]["keys"] == []
    assert invoke(["keys", "--new", "ben"]) == 0
    shown = capsys.readouterr()
    assert re.fullmatch(r"lt-[\w-]+\n", shown.out) and "shown this once" in shown.err  # a script gets the key alone
    for option in ("--new", "--revoke"):  # as of a variable that is not set
        assert said(capsys, "keys", option, "")[0] == 2


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org"])
def test_off_loopback_the_server_does_not_start_without_keys(capsys, run, host):
    code, document = said(capsys, "serve", str(run), "--host", host, "--port", "0")
    assert code == 2 and "luthier keys --new NAME" in document["error"]["message"]


def test_on_loopback_a_key_can_be_required(capsys, run):
    code, document = said(capsys, "serve", str(run), "--require-key", "--port", "0")
    assert code == 2 and "luthier keys --new NAME" in document["error"]["message"]


def test_loopback_is_told_from_the_rest():
    assert all(map(is_loopback, ("localhost", "127.0.0.1", "127.8.9.1", "::1")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "localhost.example.org", "")))


def test_a_run_that_is_not_there_and_a_missing_package_are_told(capsys, run, monkeypatch):
    assert said(capsys, "serve", "nowhere")[0] == 2
    monkeypatch.setattr("luthier.gateway.server.PACKAGES", ("uvicorn", "no_such_package"))
    code, document = said(capsys, "serve", str(run), "--port", "0")
    assert code == 2 and 'needs no_such_package: pip install "luthier[serve]"' in document["error"]["message"]


def test_monitor_shows_the_traffic_and_writes_its_page(capsys, run):
    recorder = Recorder(run, lambda n: None)
    recorder.put(shape(1, time=time.time(), model="toy/[lora]"))
    recorder.close()
    code, document = said(capsys, "monitor", str(run))
    assert code == 0 and document["requests"] >= 1 and document["page"].endswith("7-monitor/traffic.html")
    assert invoke(["monitor", str(run), "--days", "1"]) == 0
    shown = capsys.readouterr().out
    assert "toy/[lora]" in shown and "cost" in shown and "traffic.html" in shown


def test_a_run_that_was_never_served_has_no_traffic(capsys, run, tmp_path):
    (tmp_path / "recipe.yaml").write_text((run / "recipe.yaml").read_text())
    code, document = said(capsys, "monitor", str(tmp_path))
    assert code == 2 and "luthier serve" in document["error"]["message"]


@pytest.mark.parametrize("verb", ["serve", "keys", "monitor"])
def test_help_imports_nothing_heavy(verb):
    code = f"import sys; from luthier.cli.app import invoke; invoke(['{verb}', '--help']); print(list(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    modules = set(ran.stdout.splitlines()[-1].strip("[]").replace("'", "").split(", "))
    assert not modules & {"torch", "transformers", "numpy", "starlette", "uvicorn", "prometheus_client"}
