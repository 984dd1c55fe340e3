"""A run that torchrun has started: rank 0 does all stages, the others take part in stage 4."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from luthier.core.files import read_json
from tests.toy_run import RECIPE, write_model, write_rows


@pytest.mark.slow
def test_under_torchrun_the_processes_train_together_and_end(tmp_path):
    write_model(tmp_path / "model")
    write_rows(tmp_path / "rows.jsonl")
    (tmp_path / "toy.yaml").write_text(RECIPE)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*launcher, "-m", "luthier", "train", "toy.yaml", "train.placement=fsdp", "--out", "run"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert read_json(tmp_path / "run/4-train/full/result.json")["chosen"]["processes"] == 2
    refused = subprocess.run(
        [*launcher, "-m", "luthier", "train", "toy.yaml", "train.max_steps=2"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert refused.returncode != 0
    assert "2 processes were started and train.placement is `one`" in refused.stderr
