"""What the tests share: the folder of public data, and small models made on the spot."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_collection_finish() -> None:
    """Keep what the imports made out of garbage collection: a run collects at every stage, 0.3 s of it otherwise."""
    gc.freeze()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The public data for tests: `LUTHIER_DATA`, else `../shared/data`; a test that needs it skips without."""
    folder = Path(os.environ.get("LUTHIER_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip("no public data: set LUTHIER_DATA to its folder")
    return folder
