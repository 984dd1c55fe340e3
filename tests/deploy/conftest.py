"""One toy run with a chat template, three variants trained for a moment, and its exports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import luthier
from luthier.pipeline.api import Run
from tests.chat.small import CHATML
from tests.toy_run import write_model, write_rows

RECIPE = """
name: exported
model: {base: model, context: 96}
data:
  sources: rows.jsonl
  split: {validation: 4, test: 12}
plan: {preflight: warn}
train:
  max_steps: 3
  tokens_per_step: 256
  micro_tokens: 256
  learning_rate: 1e-1
  variants: {full: {method: full}, lora: {method: lora}, prompt: {method: {name: prompt, tokens: 4}}}
evaluate: {metrics: [perplexity], select: perplexity, max_new_tokens: 4, resamples: 100, against: []}
"""


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a chat model, a model without a template, rows and the recipe."""
    folder = tmp_path_factory.mktemp("exports")
    write_model(folder / "model", template=CHATML)
    write_model(folder / "plain")
    write_rows(folder / "rows.jsonl")
    (folder / "recipe.yaml").write_text(RECIPE)
    return folder


@contextmanager
def at(place: Path) -> Iterator[None]:
    """Within the block the current folder is this one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.delenv("LUTHIER_RUNS", raising=False)
        yield


@pytest.fixture(autouse=True, scope="module")
def at_the_place(place: Path) -> Iterator[None]:
    with at(place):
        yield


@pytest.fixture(scope="session")
def trained(place: Path) -> Run:
    """All variants trained, nothing evaluated or exported."""
    with at(place):
        return luthier.open_run("recipe.yaml").train()


@pytest.fixture(scope="session")
def exported(trained: Run, place: Path) -> dict[str, Any]:
    """The document of the run after `export adapter merged`."""
    with at(place):
        return trained.export("adapter", "merged").document
