"""Bytes per device, against the figures of the paper."""

from __future__ import annotations

import pytest

from luthier.plan.zero import Held, per_device, table


def test_the_papers_figures():
    """Rajbhandari et al. 2020, figure 1: 7.5 billion parameters in fp16 under Adam (K = 12), 64 devices, in GB."""
    numbers = 7_500_000_000
    held = per_device(Held(parameters=2 * numbers, gradients=2 * numbers, optimizer=12 * numbers), devices=64)
    assert {name: count / 1e9 for name, count in held.items()} == pytest.approx(
        {"none": 120, "optimizer": 31.4, "gradients": 16.6, "parameters": 1.88}, rel=0.003
    )


def test_a_frozen_base_is_shared_out_with_its_parameters_alone():
    """1000 frozen numbers and 10 that train, in fp32 under AdamW, on 4 devices: gradients take 40 bytes, state 80."""
    held = Held(parameters=4040, gradients=40, optimizer=80)
    assert per_device(held, 4) == {"none": 4160, "optimizer": 4100, "gradients": 4070, "parameters": 1040}


def test_one_device_holds_all_at_every_stage():
    assert set(per_device(Held(7, 5, 3), 1).values()) == {15}
    assert list(table(Held(7, 5, 3))) == ["1", "2", "4", "8"]
