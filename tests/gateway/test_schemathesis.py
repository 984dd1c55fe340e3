"""Schemathesis, a fuzzer of others, against the server's own OpenAPI document.

It is found in `LUTHIER_CLIENTS/schemathesis`, where `make test-clients` puts it, and else not run: `test_fuzz.py`
needs nothing and always is.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from luthier.gateway.limits import Limits

CASES = 2000
ADVICE = "no schemathesis: `make test-clients` installs and runs it"


@pytest.mark.slow
def test_schemathesis_finds_nothing(open_house, tmp_path):
    folder = Path(os.environ.get("LUTHIER_CLIENTS", ""), "schemathesis").resolve()
    if not (folder / "schemathesis").is_dir():
        pytest.skip(ADVICE)
    house = open_house(Limits(tokens=4))
    # that every allowed request is answered cannot be asked: no schema says what fits the context
    options = ["--exclude-checks", "positive_data_acceptance", "--max-examples", "300", "--seed", "1", "--no-color"]
    ran = subprocess.run(
        [sys.executable, "-m", "schemathesis.cli", "run", f"{house.url}/openapi.json", *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    assert ran.returncode == 0, ran.stdout[-5000:] + ran.stderr[-2000:]
    generated = re.search(r"([\d,]+) generated", ran.stdout)
    assert generated and int(generated[1].replace(",", "")) >= CASES, ran.stdout[-2000:]
    assert house.empties()
