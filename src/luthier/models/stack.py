"""The stack of layers that a model, or a part of it, runs its tokens through."""

from __future__ import annotations

from torch import nn
from transformers import PreTrainedModel


def stack_of(module: nn.Module) -> tuple[str, nn.ModuleList] | None:
    """The outermost list of modules and its name within `module`; None where there is none, or more than one.

    Lists within a layer, such as the experts of one, do not count.
    """
    found = [*_outermost(module, "")]
    return found[0] if len(found) == 1 else None


def decoder_layers(model: PreTrainedModel) -> tuple[str, nn.ModuleList] | None:
    """The layers of a decoder-only model, or those of an encoder-decoder's decoder, by their name in the model."""
    root: nn.Module = model.get_decoder() if model.config.is_encoder_decoder else model
    stack = stack_of(root)
    if stack is None:
        return None
    (name,) = (name for name, module in model.named_modules() if module is stack[1])
    return name, stack[1]


def _outermost(module: nn.Module, prefix: str) -> list[tuple[str, nn.ModuleList]]:
    found: list[tuple[str, nn.ModuleList]] = []
    for name, child in module.named_children():
        found += (
            [(prefix + name, child)] if isinstance(child, nn.ModuleList) else _outermost(child, f"{prefix}{name}.")
        )
    return found
