"""Which models may be given rows without padding: found out at load, by a test, not by a list of families.

Some families have attention code of their own, or positions that count through the row; packed sequences would mix
in them, silently. So two short sequences are run packed and one by one: the losses must be equal, and every layer
must have attended through `attention`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel
from transformers.utils import logging

from luthier.models.attention import NAME, packed, watched

__all__ = ["adopt", "packed", "self_test"]

TOLERANCE = 1e-5  # relative difference of a loss in fp32


def adopt(model: PreTrainedModel) -> bool:
    """Let a model attend without padding if it passes the self-test; returns whether it does."""
    fit = self_test(model)
    if fit:
        model.set_attn_implementation(NAME)
    return fit


def self_test(model: PreTrainedModel) -> bool:
    """Whether two short sequences give the same losses packed as one by one, every layer attending through us.

    The model must be in evaluation mode and fp32; its attention is left as it was.
    """
    before = model.config._attn_implementation
    if before != "sdpa" or model.config.is_encoder_decoder:
        return False
    rows = model.get_input_embeddings().weight.size(0)  # pyright: ignore[reportCallIssue]
    generator = torch.Generator().manual_seed(0)
    sequences = [torch.randint(rows, (n,), generator=generator).to(model.device) for n in (7, 12)]
    with torch.no_grad():
        apart = torch.stack([_loss(model(ids[None], use_cache=False).logits[0], ids) for ids in sequences])
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # a family that cannot change its attention says so: here that is an answer
    try:
        model.set_attn_implementation(NAME)
        with torch.no_grad():
            together = _packed_losses(model, sequences)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):  # NotImplementedError among them
        return False
    finally:
        model.set_attn_implementation(before)
        logging.set_verbosity(verbosity)
    return together is not None and torch.allclose(together, apart, rtol=TOLERANCE, atol=0)


def _packed_losses(model: PreTrainedModel, sequences: list[Tensor]) -> Tensor | None:
    """The losses of sequences packed into one row; None where some layer attended in another way."""
    lengths = torch.tensor([len(ids) for ids in sequences], device=model.device)
    positions = torch.cat([torch.arange(len(ids), device=model.device) for ids in sequences])
    with watched() as windows, packed(lengths):
        logits = model(torch.cat(sequences)[None], position_ids=positions[None], use_cache=False).logits[0]
    if not _as_configured(windows, model.config):
        return None
    parts = logits.split(lengths.tolist())
    return torch.stack([_loss(part, ids) for part, ids in zip(parts, sequences, strict=True)])


def _as_configured(windows: list[int | None], config: Any) -> bool:
    """Whether every layer called, and each that looks through a window gave it: two short rows cannot tell."""
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return len(windows) == config.num_hidden_layers
    narrow = sum(window is not None for window in windows)
    return (
        set(kinds) <= {"full_attention", "sliding_attention"}
        and len(windows) == len(kinds)
        and narrow >= kinds.count("sliding_attention")
    )


def _loss(logits: Tensor, ids: Tensor) -> Tensor:
    return cross_entropy(logits[:-1].float(), ids[1:])
