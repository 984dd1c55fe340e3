"""Whether a model's logits are its output layer's product as it stands: found out at load, by a test.

Some families scale or cap what the output layer gives; those keep their own way. Of the others the loss can be
computed from the hidden states in chunks, without all logits in memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

PLAIN = "luthier_plain"  # set on the output layer itself: an adapter put around it hides the mark
TOKENS = 4


def mark_plain_head(model: PreTrainedModel) -> bool:
    """Mark the output layer of a model whose logits are plainly its product; returns whether they are."""
    layer: Any = model.get_output_embeddings()
    if not isinstance(layer, nn.Linear):
        return False
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    ids = torch.arange(TOKENS, device=model.device)[None] % model.get_input_embeddings().weight.size(0)  # pyright: ignore
    given = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    try:
        with torch.no_grad():
            logits = model(input_ids=ids, use_cache=False, **given).logits
            plain = len(seen) == 1 and torch.equal(layer(seen[0]), logits)
    finally:
        handle.remove()
    setattr(layer, PLAIN, plain)
    return plain


def output_layer(model: PreTrainedModel) -> nn.Module:
    """The layer that makes logits of hidden states."""
    layer: Any = model.get_output_embeddings()
    assert isinstance(layer, nn.Module)
    return layer


def is_plain(layer: nn.Module) -> bool:
    """Whether this very output layer was marked."""
    return getattr(layer, PLAIN, False)
