"""A finished run to be watched."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.toy_served import make_run


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of toy width, tuned in full, by LoRA and by a soft prompt."""
    return make_run(tmp_path_factory.mktemp("watched"))
