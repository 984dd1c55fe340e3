"""A flow of three small stages that count how often they run: the pipeline's own logic without any training."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from luthier.core.artefacts import Artefacts, Counts
from luthier.core.files import write_text
from luthier.pipeline.stages import Stage
from luthier.recipe.load import parse
from luthier.recipe.schema import Recipe
from luthier.recipe.sections import DataSection, EvaluateSection, TrainSection


class Flow:
    """The stages, what ran, and a switch that makes one of them fail."""

    def __init__(self, outside: Path) -> None:
        self.ran: list[str] = []
        self.outside = outside
        self.breaks: dict[str, BaseException] = {}
        self.stages = (
            Stage(1, "rows", DataSection, "fake_stages.rows"),
            Stage(2, "weights", TrainSection, "fake_stages.weights", ("rows",), resumable=True, per_variant=True),
            Stage(3, "marks", EvaluateSection, "fake_stages.marks", ("rows", "weights"), publishes=True),
        )

    def rows(self, section: DataSection, inputs: Artefacts, out: Path) -> Counts:
        self._note(out, "rows")
        write_text(out / "rows.txt", self.outside.read_text())
        return Counts(total=3, kept=2, removed={"duplicates": 1})

    def weights(self, section: TrainSection, inputs: Artefacts, out: Path) -> dict[str, Any]:
        with (out / "steps.txt").open("a") as file:
            file.write("step\n")
        self._note(out, f"weights/{out.name}")
        write_text(out / "weights.txt", (inputs["rows"] / "rows.txt").read_text() * 2)
        return {"steps": 1}

    def marks(self, section: EvaluateSection, inputs: Artefacts, out: Path) -> dict[str, Any]:
        self._note(out, "marks")
        write_text(out / "marks.txt", "".join(p.read_text() for p in sorted(inputs["weights"].glob("*/weights.txt"))))
        return {}

    def apart(self, section: EvaluateSection, inputs: Artefacts, out: Path) -> dict[str, Any]:
        self._note(out, "apart")
        return {}

    def dependencies(self, section: DataSection) -> dict[str, str]:
        return {str(self.outside): self.outside.read_text()}

    def _note(self, out: Path, name: str) -> None:
        self.ran.append(name)
        if name in self.breaks:
            raise self.breaks.pop(name)


@pytest.fixture
def flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flow]:
    outside = tmp_path / "outside.txt"
    outside.write_text("some rows\n")
    made = Flow(outside)
    for name in ("rows", "weights", "marks", "apart"):
        module = ModuleType(f"fake_stages.{name}")
        module.run = getattr(made, name)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    sys.modules["fake_stages.rows"].dependencies = made.dependencies
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LUTHIER_RUNS", raising=False)
    yield made


@pytest.fixture
def recipe() -> Callable[..., Recipe]:
    def make(**train: Any) -> Recipe:
        values = {"name": "test", "model": {"base": "blank:t5"}, "data": {"sources": "outside.txt"}, "train": train}
        return parse(values)

    return make
