"""A tracker may be slow, broken, dead or absent: the training does not notice, and says so once."""

from __future__ import annotations

import importlib.util
import sys
import threading

import pytest

from luthier.core.errors import UserError
from luthier.core.files import write_jsonl
from luthier.pipeline.validate import validate
from luthier.recipe.load import override, parse
from luthier.trackers import TRACKERS, installed, relay
from luthier.trackers.wandb import mode
from tests.train import toy

LINES = [
    {"step": 0, "validation": {"loss": 2.5, "rougeL": None}, "best": True},
    *({"step": step, "epoch": 0, "loss": 1.0 / step, "grad_norm": None} for step in range(1, 6)),
]


class Recorder:
    """A tracker that keeps what it gets, and fails as often as it is told to."""

    def __init__(self, failures=0, held=None):
        self.points, self.closed, self.failures, self.held = [], [], failures, held or {}

    def __call__(self):
        if self.failures:
            self.failures -= 1
            raise ConnectionError("no route to http://me:hunter2@tracker.example/api")
        return self

    def last(self, name):
        return self.held.get(name, -1)

    def write(self, points):
        self.points += points

    def close(self, finished):
        self.closed.append(finished)


@pytest.fixture
def path(tmp_path):
    write_jsonl(tmp_path / "metrics.jsonl", LINES)
    return tmp_path / "metrics.jsonl"


def warnings(caplog):
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_a_line_as_numbers():
    assert relay.scalars(LINES[0]) == (0, {"validation/loss": 2.5})
    assert relay.scalars(LINES[1]) == (1, {"train/epoch": 0.0, "train/loss": 1.0})
    assert relay.scalars({"step": 9, "result": {"spikes": 2}}) == (9, {"result/spikes": 2.0})


def test_it_gets_each_line_once_and_the_result_last(path, monkeypatch):
    """Lines are added while it follows; the last has not been written to its end."""
    monkeypatch.setattr(relay, "PAUSE", 0.01)
    monkeypatch.setattr(relay, "AT_ONCE", 120)  # less than all lines
    tracker = Recorder()
    following = relay.Relay("recorder", tracker, path)
    with path.open("a") as file:
        file.write('{"step": 6, "loss": 0.25}\n{"step": 7, "lo')
    following.end((6, {"result/best_step": 5.0}))
    following.close()
    lines = [relay.scalars(line) for line in [*LINES, {"step": 6, "loss": 0.25}]]
    assert tracker.points == [*lines, (6, {"result/best_step": 5.0})] and tracker.closed == [True]


def test_it_gets_what_it_lacks_of_each_name(path):
    tracker = Recorder(held={"train/loss": 3, "train/epoch": 9})
    relay.Relay("recorder", tracker, path).close()
    assert tracker.points == [(0, {"validation/loss": 2.5}), (4, {"train/loss": 0.25}), (5, {"train/loss": 0.2})]
    assert tracker.closed == [False], "the training was stopped and goes on later"


def test_one_that_fails_is_tried_again_lacks_nothing_and_is_said_once_without_its_password(path, monkeypatch, caplog):
    monkeypatch.setattr(relay, "AGAIN", 0.01)
    tracker = Recorder(failures=3)
    following = relay.Relay("recorder", tracker, path)
    following._thread.join(0.5)
    following.end((5, {}))
    following.close()
    assert len(tracker.points) == len(LINES) and not tracker.failures
    (said,) = warnings(caplog)
    assert "no route to http://***@tracker.example" in said and "hunter2" not in said


def test_one_that_hangs_is_left_behind(path, monkeypatch, caplog):
    monkeypatch.setattr(relay, "PATIENCE", 0.05)
    forever = threading.Event()
    following = relay.Relay("sloth", lambda: forever.wait() and Recorder(), path)
    following.end((5, {}))
    following.close()
    (said,) = warnings(caplog)
    assert said == "sloth has not taken the last lines in time: metrics.jsonl has them all"
    forever.set()
    following._thread.join()


@pytest.mark.parametrize("name", ["mlflow", "tensorboard"])
def test_training_goes_on_without_a_server_and_without_a_disk(tmp_path, monkeypatch, caplog, name):
    """MLflow's server is not there; TensorBoard's folder cannot be made. The weights are those of a run without."""
    pytest.importorskip(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:hunter2@127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    folder = toy.furnish(tmp_path)
    plain, _ = toy.train(folder, toy.section(folder), folder / "plain")
    (folder / "followed").mkdir()
    (folder / "followed" / "tensorboard").write_text("in the way")
    caplog.clear()
    followed, _ = toy.train(folder, toy.section(folder, track=[name]), folder / "followed")
    toy.assert_same(toy.weights(followed), toy.weights(plain))
    (said,) = warnings(caplog)
    assert said.startswith(f"{name} takes no figures now (") and "hunter2" not in caplog.text
    assert toy.steps(folder / "followed") == toy.steps(folder / "plain")


RECIPE = {"name": "x", "model": {"base": "builtin:t5"}, "data": {"sources": "rows.jsonl"}}


def refusal(*changes):
    with pytest.raises(UserError) as refused:
        validate(parse(override(RECIPE, changes)))
    return str(refused.value)


@pytest.mark.parametrize("name", TRACKERS)
def test_a_missing_package_is_said_when_the_recipe_is_checked(monkeypatch, name):
    for package in {module.split(".")[0] for module in TRACKERS[name].modules} - {"torch"}:
        monkeypatch.setitem(sys.modules, package, None)
    said = refusal(f"train.track={name}")
    assert said.startswith(f"train.track: {name} needs ") and said.endswith(f'pip install "luthier[{name}]"')
    said = refusal(f"train.variants={{a: {{track: [{name}]}}}}")
    assert said.startswith(f"train.variants.a.track: {name} needs ")
    validate(parse(override(RECIPE, [f"train.track={name}"])), resolved=True)  # a run that was trained elsewhere


def test_a_folder_that_is_called_like_a_package_is_none(tmp_path, monkeypatch):
    (tmp_path / "wandb").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    importlib.invalidate_caches()
    assert importlib.util.find_spec("wandb") is not None
    assert "wandb is missing" in installed.lacking("wandb")


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ("tensorbord", "train.track: no tracker is called 'tensorbord': did you mean 'tensorboard'?"),
        ("[wandb, wandb]", "wandb is listed twice"),
        ("{name: mlflow, url: x}", "unknown key 'train.track.url': did you mean 'uri'?"),
        ("{name: mlflow, uri: 'https://a:b@host'}", "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"),
    ],
)
def test_what_is_refused(written, said):
    assert said in refusal(f"train.track={written}")


def test_a_password_is_not_repeated():
    assert "geheim" not in refusal("train.track={name: mlflow, uri: 'https://a:geheim@host'}")


@pytest.mark.parametrize(
    ("environment", "asked", "found"),
    [
        ({}, "auto", "offline"),
        ({"WANDB_API_KEY": "k" * 40}, "auto", "online"),
        ({"WANDB_API_KEY": "k" * 40, "WANDB_MODE": "offline"}, "auto", "offline"),
        ({"WANDB_MODE": "online"}, "auto", "online"),
        ({"WANDB_MODE": "online"}, "offline", "offline"),
        ({"NETRC": "netrc"}, "auto", "online"),
        ({"NETRC": "netrc", "WANDB_BASE_URL": "https://other.example"}, "auto", "offline"),
    ],
)
def test_who_is_logged_in_is_online(tmp_path, monkeypatch, environment, asked, found):
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password " + "k" * 40)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "NETRC"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert mode(asked) == found
