"""Jobs that run here: torchrun, and a Ray cluster that is started for the tests."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from luthier.core.errors import Interrupted, Refusal, UserError
from luthier.launch import child
from luthier.launch.options import Options
from luthier.launch.prepare import prepare
from luthier.launch.ray_node import Node
from luthier.pipeline.index import find
from tests.toy_run import RECIPE, write_model, write_rows

STOPPED = """
import signal, sys, time
from pathlib import Path
def stop(number, frame):
    Path("checkpoint").write_text("saved")
    sys.exit(130)
signal.signal(signal.SIGTERM, stop)
Path("ready").touch()
time.sleep(60)
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe of a second over a toy model and forty rows, in the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LUTHIER_RUNS", raising=False)
    write_model(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl")
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    return Path("recipe.yaml")


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (0, None, ""),
        (1, Refusal, "ended with exit code 1"),
        (2, UserError, "refused their input"),
        (130, Interrupted, "were stopped"),
    ],
)
def test_exit_codes_of_the_workers_are_luthiers(code, kind, words):
    command = [sys.executable, "-c", f"raise SystemExit({code})"]
    if kind is None:
        child.run(command)
        return
    with pytest.raises(kind, match=words):
        child.run(command)


def test_ctrl_c_is_passed_on_once_and_waited_for(tmp_path):
    (tmp_path / "stopped.py").write_text(STOPPED)
    # a shell that runs the tests in the background has switched Ctrl-C off for all it starts
    hears = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{hears}; from luthier.launch import child; child.run([sys.executable, 'stopped.py'])"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE)
    while not (tmp_path / "ready").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in process.communicate(timeout=30)[1]
    assert (tmp_path / "checkpoint").read_text() == "saved"


@pytest.mark.slow
def test_torchrun_on_two_processes(toy):
    launch = prepare("torchrun", toy, gpus=0, processes=2)
    assert launch.run is not None
    launch.run()
    _trained_together()


def _trained_together() -> None:
    (run,) = [path for path in Path("runs").iterdir() if path.is_dir()]
    assert (find(str(run)) / "report.html").is_file()
    assert "placement: fsdp" in (run / "recipe.yaml").read_text()


def test_a_node_runs_python_and_says_how_it_ended(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").touch()
    (tmp_path / "dataset_info.json").touch()
    node = Node(str(tmp_path / "not here"))
    assert node.missing(["rows.jsonl", "gone.jsonl", "dataset_info.json:x", "$NOT_SET/rows.jsonl"]) == [
        "gone.jsonl",
        "$NOT_SET/rows.jsonl",
    ]
    code = "import os, sys; print(open(sys.argv[1]).read(), os.environ['LUTHIER_RUNS']); raise SystemExit(2)"
    assert node.run("name: ü", ["-c", code, "{recipe}"], {"LUTHIER_RUNS": "/r"}) == (2, "name: ü /r")
    assert capfd.readouterr().out == "name: ü /r\n"
    code = "print('error: train.x is wrong'); print('=' * 40); raise SystemExit(1)"
    assert node.run("", ["-c", code], {}) == (1, "error: train.x is wrong")


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a Ray cluster of this machine, with three processors, put away after the tests."""
    if find_spec("ray") is None:
        pytest.skip('Ray is not installed: pip install "luthier[ray]"')
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with (
        pytest.MonkeyPatch.context() as patch,
        tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder,
    ):
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else a token is written into the home folder
        where = ["--port", address.partition(":")[2], "--node-ip-address", "127.0.0.1", "--temp-dir", folder]
        what = ["--num-cpus", "3", "--num-gpus", "0", "--include-dashboard", "false", "--disable-usage-stats"]
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", *where, *what]
        head = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            _wait_for(address, head)
            yield address
        finally:
            head.terminate()
            head.wait(30)


def _wait_for(address: str, head: subprocess.Popen) -> None:
    host, port = address.split(":")
    for _ in range(600):
        assert head.poll() is None
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("Ray did not start")


@pytest.mark.slow
def test_ray_refuses_files_that_its_machines_do_not_have(cluster, toy):
    launch = prepare("ray", toy, ["data.sources=gone.jsonl"], gpus=0, options=Options(address=cluster))
    assert launch.run is not None
    with pytest.raises(
        UserError, match=r"data\.sources\.data = 'gone\.jsonl' is not on the cluster's machines: put it"
    ):
        launch.run()


@pytest.mark.slow
def test_ray_trains_on_two_machines(cluster, toy):
    launch = prepare("ray", toy, nodes=2, gpus=0, options=Options(address=cluster))
    assert launch.run is not None
    launch.run()
    _trained_together()


@pytest.mark.slow
def test_ray_that_is_not_there(toy):
    if find_spec("ray") is None:
        pytest.skip('Ray is not installed: pip install "luthier[ray]"')
    launch = prepare("ray", toy, gpus=0, options=Options(address="127.0.0.1:1"))
    assert launch.run is not None
    with pytest.raises(UserError, match="no Ray cluster answers there"):
        launch.run()
