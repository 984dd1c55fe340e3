"""Folders with a base and rows, made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.train import toy


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A folder with `base` and `data`, by the arguments of `toy.furnish`; the same arguments give the same folder."""
    made: dict[tuple[object, ...], Path] = {}

    def make(family: str = "llama", dropout: float = 0.0, rows: int = 24, objective: str = "sft") -> Path:
        key = (family, dropout, rows, objective)
        if key not in made:
            made[key] = toy.furnish(tmp_path_factory.mktemp(family), *key)
        return made[key]

    return make
