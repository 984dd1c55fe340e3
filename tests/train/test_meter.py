"""What is measured of a step, with clocks that say what the test wants."""

from __future__ import annotations

import time

import pytest
import torch

from luthier.train import meter
from luthier.train.meter import Meter


@pytest.fixture
def clocks(monkeypatch):
    """The wall clock and the processor's, and a machine of four cores."""
    now = {"wall": 100.0, "cpu": 7.0}
    monkeypatch.setattr(time, "perf_counter", lambda: now["wall"])
    monkeypatch.setattr(time, "process_time", lambda: now["cpu"])
    monkeypatch.setattr(meter, "cores", lambda: 4)
    return now


def test_the_figures_of_a_step(clocks):
    """2 s in which 3 s of four cores' 8 were used, of which 0.5 s passed waiting; 512 tokens."""
    measured = Meter(torch.device("cpu"), waited=1.25)
    clocks["wall"] += 2.0
    clocks["cpu"] += 3.0
    assert measured.seconds == 2.0
    assert measured.figures(512, 1.75) == {"tokens_per_second": 256.0, "waiting": 0.25, "cpu": 0.375}


def test_a_gpu_says_how_busy_it_is_where_it_can_be_asked(clocks, monkeypatch):
    monkeypatch.setattr(torch.cuda, "utilization", lambda: 73)
    meter._can_be_asked.cache_clear()
    assert Meter(torch.device("cuda"), 0.0).figures(1, 0.0)["gpu"] == 0.73

    def no_library():
        raise ModuleNotFoundError("nvidia-ml-py does not seem to be installed")

    monkeypatch.setattr(torch.cuda, "utilization", no_library)
    meter._can_be_asked.cache_clear()
    assert "gpu" not in Meter(torch.device("cuda"), 0.0).figures(1, 0.0)
    meter._can_be_asked.cache_clear()


def test_cores_are_those_that_may_be_used():
    assert 1 <= meter.cores() <= 4096
