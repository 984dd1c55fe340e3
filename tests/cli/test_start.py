"""What stands before torch is imported: OpenMP itself says which settings it has read."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="OpenMP words it otherwise elsewhere")
@pytest.mark.parametrize(("given", "expected"), [({}, "PASSIVE"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE")])
def test_waiting_threads_sleep_unless_the_user_says_otherwise(tmp_path, given, expected):
    around = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    ran = subprocess.run(
        [sys.executable, "-m", "luthier", "doctor", "--json"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**around, **given, "OMP_DISPLAY_ENV": "TRUE"},
    )
    assert f"OMP_WAIT_POLICY = '{expected}'" in ran.stderr and '"threads"' in ran.stdout
