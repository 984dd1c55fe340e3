"""Which models may be given rows without padding: found out at load, by a test, not by a list of families.

Some families have attention code of their own, or positions that count through the row; packed sequences would mix
in them, silently. So two short sequences are run packed and one by one: the losses must be equal, and every layer
must have attended through `attention`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel
from transformers.utils import logging

from luthier.core.tables import Table
from luthier.models.attention import NAME, Boundaries, packed, watched
from luthier.models.longrope import adopt_longrope

__all__ = ["LENGTHS", "adopt", "packed", "packed_inputs", "self_test", "short_sequences"]

TOLERANCE = 1e-5  # relative difference of a loss in fp32
LENGTHS = (7, 12)  # tokens of the two sequences of a test
OWN_CODE: Table[Callable[[PreTrainedModel], None]] = Table(
    "packed attention", {"bloom": "luthier.models.bloom:adopt_bloom", "t5": "luthier.models.t5:adopt_t5"}
)


def adopt(model: PreTrainedModel) -> bool:
    """Let a model attend without padding if it passes the self-test; returns whether it does."""
    before = model.config._attn_implementation or "eager"
    if model.config.model_type in OWN_CODE:
        OWN_CODE[model.config.model_type](model)
    elif before != "sdpa" or model.config.is_encoder_decoder or not _takes(model, NAME):
        return False
    adopt_longrope(model)
    fit = self_test(model)
    if not fit:
        _takes(model, before)
    return fit


def self_test(model: PreTrainedModel) -> bool:
    """Whether two short sequences give the same losses packed as one by one, every layer attending through us.

    The model must be in evaluation mode and fp32.
    """
    sequences = short_sequences(model, torch.Generator().manual_seed(0))
    answers = [ids[2:] for ids in sequences] if model.config.is_encoder_decoder else []
    try:
        with torch.no_grad():
            apart = torch.stack([_losses(model, [ids], answers[i : i + 1])[0] for i, ids in enumerate(sequences)])
            with watched() as windows:
                together = _packed_losses(model, sequences, answers)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):  # NotImplementedError among them
        return False
    return _as_configured(windows, model.config) and torch.allclose(together, apart, rtol=TOLERANCE, atol=0)


def short_sequences(model: PreTrainedModel, generator: torch.Generator) -> list[Tensor]:
    """Two sequences of `LENGTHS` tokens drawn from all that the model knows."""
    rows = model.get_input_embeddings().weight.size(0)  # pyright: ignore[reportCallIssue]
    return [torch.randint(rows, (n,), generator=generator).to(model.device) for n in LENGTHS]


def packed_inputs(model: PreTrainedModel, sequences: list[Tensor], answers: list[Tensor]) -> dict[str, Tensor]:
    """What a model is given for sequences (and an encoder-decoder's decoder inputs) end to end in one row."""
    inputs = {"input_ids": torch.cat(sequences)[None]}
    if answers:
        unused = torch.ones(1, 1, 1, 1, device=model.device)  # a mask of four dimensions is taken as it is
        return {
            **inputs,
            "attention_mask": unused,
            "decoder_input_ids": torch.cat(answers)[None],
            "decoder_attention_mask": unused,
        }
    if counts_positions(model):
        inputs["position_ids"] = torch.cat([torch.arange(len(ids), device=model.device) for ids in sequences])[None]
    return inputs


def counts_positions(model: PreTrainedModel) -> bool:
    """Whether the model must be told each token's position."""
    return "position_ids" in inspect.signature(type(model).forward).parameters


def _losses(model: PreTrainedModel, sequences: list[Tensor], answers: list[Tensor]) -> list[Tensor]:
    given = {"decoder_input_ids": torch.cat(answers)[None]} if answers else {}
    logits = model(input_ids=torch.cat(sequences)[None], use_cache=False, **given).logits[0]
    return _each(logits, answers or sequences)


def _packed_losses(model: PreTrainedModel, sequences: list[Tensor], answers: list[Tensor]) -> Tensor:
    read, spoken = ([len(ids) for ids in part] for part in (sequences, answers))
    with packed(Boundaries(read, spoken, device=model.device)):
        logits = model(**packed_inputs(model, sequences, answers), use_cache=False).logits[0]
    return torch.stack(_each(logits, answers or sequences))


def _each(logits: Tensor, sequences: list[Tensor]) -> list[Tensor]:
    parts = logits.split([len(ids) for ids in sequences])
    return [cross_entropy(part[:-1].float(), ids[1:]) for part, ids in zip(parts, sequences, strict=True)]


def _as_configured(windows: list[int | None], config: Any) -> bool:
    """Whether every layer called, and each that looks through a window gave it: two short rows cannot tell."""
    kinds = getattr(config, "layer_types", None)
    if config.is_encoder_decoder:
        return len(windows) == config.num_layers + 2 * config.num_decoder_layers
    if kinds is None:
        return len(windows) == config.num_hidden_layers
    narrow = sum(window is not None for window in windows)
    return (
        set(kinds) <= {"full_attention", "sliding_attention"}
        and len(windows) == len(kinds)
        and narrow >= kinds.count("sliding_attention")
    )


def _takes(model: PreTrainedModel, implementation: str) -> bool:
    """Set the model's attention; whether it took it: a family that cannot warns, and here that is an answer."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model.set_attn_implementation(implementation)
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError):
        return False
    finally:
        logging.set_verbosity(verbosity)
    return model.config._attn_implementation == implementation
