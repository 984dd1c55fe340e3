"""Objective, method and family are independent choices: every combination learns, in one loop that knows no names."""

from __future__ import annotations

import pytest

from luthier.methods import METHODS
from luthier.objectives import OBJECTIVES
from tests.train import toy

STEPS = 15
LEARNING_RATE = {"full": 1e-2, "lora": 3e-2, "prompt": 0.5}
MARGIN = {"full": 0.3, "lora": 0.3, "prompt": 0.03}  # share of the loss that is gone at the end


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "bloom", "t5"])
@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("method", METHODS)
def test_it_learns(furnished, tmp_path, family, objective, method):
    """Eight rows, all of them in every step."""
    folder = furnished(family, rows=8, objective=objective)
    wanted = toy.section(
        folder,
        method=method,
        objective=objective,
        learning_rate=LEARNING_RATE[method],
        tokens_per_step=1000,
        micro_tokens=1000,
        epochs=STEPS,
        validate_every=0,
    )
    toy.train(folder, wanted, tmp_path)
    losses = [line["loss"] for line in toy.steps(tmp_path)]
    assert len(losses) == STEPS
    print("MARGIN", method, objective, family, round(1 - losses[-1] / losses[0], 3))
    assert losses[-1] < (1 - MARGIN[method]) * losses[0], losses
