"""Activations that are computed again in the backward pass (Chen et al. 2016), where memory asks for it.

The result is the same to the bit; a step takes about a third longer and holds a fraction of the memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from transformers import PreTrainedModel

from luthier.engine.footprint import Shape, Stack, whole_bytes

ROOM = 0.9  # the share of what is free that a run may plan with


def must_recompute(choice: str, shape: Shape, layers: int, tokens: int, free: int) -> bool:
    """Whether to compute activations again: as the recipe says, or `auto`, where keeping them would not fit.

    `tokens` of the largest micro-batch, `free` bytes beside the weights, which are there already.
    """
    if choice != "auto":
        return choice == "recompute"
    kept = whole_bytes(shape, (Stack(layers, tokens),), 0) - shape.weights
    return shape.backward and kept > ROOM * free


def largest(tokens: np.ndarray, longest: np.ndarray, micro_tokens: int) -> int:
    """Tokens of the largest micro-batch of a run whose steps have so many, and rows up to so long."""
    return int(np.minimum(tokens, np.maximum(longest, micro_tokens)).max(initial=0))


def layers_of(config: Any) -> int:
    """Layers of a model, those of an encoder and a decoder together."""
    below = config.num_hidden_layers
    return below + (getattr(config, "num_decoder_layers", None) or below) if config.is_encoder_decoder else below


def recompute(model: PreTrainedModel) -> None:
    """Keep of each layer what goes into it."""
    switch: Any = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    switch({"use_reentrant": False})
