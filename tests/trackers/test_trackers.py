"""The real packages, offline: what they hold afterwards is what `metrics.jsonl` says, once, whatever happened."""

from __future__ import annotations

import json
import shutil
import signal
from importlib.util import find_spec

import numpy as np
import pytest

from luthier.core.errors import Interrupted
from luthier.core.files import read_jsonl
from luthier.recipe.values import Named
from luthier.trackers.contract import Followed
from luthier.trackers.relay import opener, scalars
from tests.trackers import readers
from tests.trackers.readers import READERS
from tests.train import toy
from tests.train.test_resume import signalled

PACKAGES = {"tensorboard": ("tensorboard",), "mlflow": ("mlflow", "alembic"), "wandb": ("wandb",)}
ROUNDED = {"tensorboard": np.float32}


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """Nobody is logged in anywhere."""
    for name in ("MLFLOW_TRACKING_URI", "WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toy.furnish(tmp_path_factory.mktemp("llama"))


def needs(name):
    missing = [package for package in PACKAGES[name] if find_spec(package) is None]
    return pytest.param(name, marks=pytest.mark.skipif(bool(missing), reason=f"{missing} not installed"))


each = pytest.mark.parametrize("name", [needs(name) for name in PACKAGES])


def journal(out):
    """The journal's numbers as a tracker should hold them."""
    found = {}
    for step, values in map(scalars, read_jsonl(out / "metrics.jsonl")):
        for name, value in values.items():
            found.setdefault(name, []).append((step, value))
    return found


def assert_holds_the_journal(folder, out, name):
    written, expected = READERS[name](folder, out), journal(out)
    result = {n: written.pop(n) for n in list(written) if n.startswith("result/")}
    rounded = ROUNDED.get(name, float)
    assert written == {n: [(step, float(rounded(v))) for step, v in points] for n, points in expected.items()}
    return {n: points[-1] for n, points in result.items() if len(points) == 1}


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """An empty database of MLflow's, whose making takes seconds."""
    from mlflow.tracking import MlflowClient

    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").create_experiment("luthier")
    return path


@pytest.fixture
def run(folder, tmp_path, request):
    """A run folder of its own whose stage 1 is the module's, and a variant's folder in it."""
    (tmp_path / "data").symlink_to(folder / "data")
    if "mlflow" in request.node.name:
        shutil.copy(request.getfixturevalue("database"), tmp_path / "mlflow.db")
    return tmp_path, tmp_path / "4-train" / "lora"


def train(folder, run, wanted, job=None):
    return toy.train(run[0], wanted, run[1], job or toy.job_of(folder, wanted))


@each
def test_every_number_of_the_journal_is_there_and_the_result(folder, run, name):
    wanted = toy.section(folder, track=[name], validate_every=0.5)
    _, state = train(folder, run, wanted)
    result = assert_holds_the_journal(*run, name)
    assert result["result/best_step"] == (state.step, state.best_step)
    assert result["result/loss"][1] == pytest.approx(state.best, rel=1e-6)
    assert {"train/loss", "train/grad_norm", "train/learning_rate", "train/tokens_per_second", "train/waiting",
            "train/cpu", "train/memory_bytes", "validation/loss"} <= journal(run[1]).keys()  # fmt: skip


@each
def test_a_run_that_was_stopped_and_killed_goes_on_without_a_step_twice(folder, run, name):
    """Stopped after 4 steps; a kill later the tracker is ahead of the checkpoint; then to the end."""
    wanted = toy.section(folder, track=[name], validate_every=0.5)
    with pytest.raises(Interrupted):
        train(folder, run, wanted, signalled(toy.job_of(folder, wanted), 4, signal.SIGTERM))
    with pytest.raises(KeyboardInterrupt):
        train(folder, run, wanted, signalled(toy.job_of(folder, wanted), 3, signal.SIGINT, times=2))
    train(folder, run, wanted)
    plain = [(name, [step for step, _ in points]) for name, points in READERS[name](*run).items()]
    assert dict(plain)["train/loss"] == list(range(1, len(toy.steps(run[1])) + 1))
    assert all(steps == sorted(set(steps)) for _, steps in plain)
    losses = [value for _, value in READERS[name](*run)["train/loss"]]
    assert losses == pytest.approx([line["loss"] for line in toy.steps(run[1])], rel=1e-6)
    assert READERS[name](*run)["result/loss"]


SETTINGS = {"training.learning_rate": 0.0125, "data.prompt": "x" * 9000, "data.sources.é#1": "rows.jsonl"}


def opened(run, **asked):
    run[1].mkdir(parents=True, exist_ok=True)
    return opener(Named.model_validate(asked), Followed(*run, SETTINGS))()


def test_tensorboard_is_told_the_settings(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    opened(run, name="tensorboard").close(True)
    events = EventAccumulator(str(run[1] / "tensorboard"))
    events.Reload()
    (text,) = events.Tensors("settings/text_summary")
    assert b"| training.learning_rate | 0.0125 |" in text.tensor_proto.string_val[0]


@pytest.mark.parametrize("name", [needs("mlflow")])
def test_mlflow_is_told_the_settings_where_the_recipe_says(run, name):
    (run[0] / "mlflow.db").rename(run[0] / "other.db")
    uri = f"sqlite:///{run[0] / 'other.db'}"
    opened(run, name=name, uri=uri, experiment="mine").close(True)
    _, found = readers.mlflow_of(uri, "mine")
    assert found.data.params == {
        "training.learning_rate": "0.0125", "data.prompt": "x" * 6000, "data.sources.é_1": "rows.jsonl"
    }  # fmt: skip
    assert (found.info.status, found.info.run_name) == ("FINISHED", f"{run[0].name}/lora")
    opened(run, name=name, uri=uri, experiment="mine")
    assert readers.mlflow_of(uri, "mine")[1].info.status == "RUNNING"


@pytest.mark.parametrize("name", [needs("wandb")])
def test_wandb_is_told_the_settings_and_says_how_they_are_sent(run, name, caplog):
    opened(run, name=name, project="mine").close(True)
    (record,) = [r.run for r in readers.wandb_records(run[0]) if r.WhichOneof("record_type") == "run"]
    told = {item.key: json.loads(item.value_json) for item in record.config.update}
    assert {key: told[key] for key in SETTINGS} == SETTINGS
    assert (record.project, record.run_group, record.display_name) == ("mine", run[0].name, f"{run[0].name}/lora")
    (path,) = (run[0] / "wandb").glob("offline-run-*")
    assert f"`wandb sync {path}` sends the run" in caplog.text
