"""Memory is measured by allocating a known amount."""

import numpy as np
import pytest

from luthier.engine import memory

MIB = 2**20


@pytest.fixture(params=["kernel", "sampled"])
def way(request, monkeypatch, tmp_path):
    """Both ways of measuring: the kernel's high-water mark, and the sampling thread where there is none."""
    if request.param == "sampled":
        monkeypatch.setattr(memory, "CLEAR_REFS", tmp_path / "absent" / "clear_refs")
        monkeypatch.setattr(memory, "_sampler", memory._Sampler())
    monkeypatch.setattr(memory, "_sampling", False)


def test_the_peak_holds_what_was_freed_again_and_a_reset_forgets_it(way):
    memory.reset_peak()
    before = memory.peak_bytes()
    block = np.ones(96 * MIB, dtype=np.uint8)
    for _ in range(20):
        block += 1  # long enough for the sampling thread to look
    del block
    assert before + 90 * MIB < memory.peak_bytes() < before + 120 * MIB
    memory.reset_peak()
    assert memory.peak_bytes() < before + 30 * MIB


def test_the_present_use_is_below_the_peak_and_the_machine_has_some_left():
    assert 10 * MIB < memory.current_bytes() <= memory.peak_bytes() + 5 * MIB
    assert memory.available_bytes() > 0
