"""A second process that waits for tasks, started once: this one is rank 0, as under a launcher."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from torch.distributed import TCPStore

from luthier.engine.placement import join
from luthier.evaluate.quick import validation_metrics
from luthier.train import stage, together
from tests.train import toy

TWO = {"name": "fsdp"}


@pytest.fixture(scope="session")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port under which the second process is found."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    process = together._start(1, 2, store.port, 1, tmp_path_factory.mktemp("second"))
    yield store.port
    together._tell(store, together.END)
    assert process.wait(20) == 0


@pytest.fixture
def pair(second: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process as the first of two."""
    names = {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_PORT": second}
    for name, value in names.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A folder with a base of that family and rows; the same family gives the same folder."""
    made: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in made:
            made[family] = toy.furnish(tmp_path_factory.mktemp(family), family, rows=24)
        return made[family]

    return make


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Stage 4 with these settings, in a folder of that name, on one device or placed; returns the folder."""

    def train(folder: Path, name: str, placement: Any = "one", **settings: Any) -> Path:
        usual = {"epochs": 30, "micro_tokens": 24, "validate_every": 0.5, "learning_rate": 1e-3, **settings}
        wanted = toy.section(folder, placement=placement, **usual)
        out = tmp_path / name
        out.mkdir(exist_ok=True)
        if placement == "one":
            with monkeypatch.context() as alone:
                for key in ("RANK", "WORLD_SIZE"):
                    alone.delenv(key, raising=False)
                assert not join.started()
                stage.run(wanted, toy.inputs_of(folder), out, validation_metrics)
        else:
            stage.run(wanted, toy.inputs_of(folder), out, validation_metrics)
        return out

    return train
