"""Objective, method and family are independent choices: every combination learns, in one loop that knows no names."""

from __future__ import annotations

import pytest

from luthier.methods import METHODS
from luthier.objectives import OBJECTIVES
from tests.train import toy

STEPS = 15
LEARNING_RATE = {"full": 1e-2, "lora": 3e-2, "prompt": 0.5}
MARGIN = {"full": 0.9, "lora": 0.85, "prompt": 0.5}  # share of the loss that is gone at the end
ENCODER_DECODER = {"full": 0.4, "lora": 0.25, "prompt": 0.04}  # a soft prompt reaches the decoder through the encoder


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
    margin = (ENCODER_DECODER if family == "t5" else MARGIN)[method]
    assert losses[-1] < (1 - margin) * losses[0], losses
