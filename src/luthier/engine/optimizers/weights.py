"""What trains, each parameter with its share of the learning rate: by layer, and by name."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import prod

from torch import nn
from transformers import PreTrainedModel

from luthier.core.errors import UserError, did_you_mean
from luthier.engine.optimizers.contract import Weight
from luthier.methods.contract import Trainable

LAYER = re.compile(r"^(.*?)\.(\d+)\.")  # the first number in a name counts the layers of its stack


def weights_of(
    trainable: Trainable, layer_decay: float = 1.0, rates: Mapping[str, float] | None = None
) -> list[Weight]:
    """What trains, in its order, with the shares of the learning rate that the recipe asks for.

    Errors: UserError where `layer_decay` or a pattern of `rates` changes nothing.
    """
    embeddings, output = _embeddings(trainable.model), trainable.model.get_output_embeddings()
    outer = embeddings | {id(p) for p in (output.parameters() if output is not None else ())}
    named = trainable.parameters
    by_layer = layer_rates(list(named), {name for name, p in named.items() if id(p) in embeddings}, layer_decay)
    by_name = name_rates(list(named), rates or {})
    return [Weight(name, p, by_layer[name] * by_name[name], id(p) not in outer) for name, p in named.items()]


def _embeddings(model: PreTrainedModel) -> set[int]:
    """The ids of the parameters of all embeddings."""
    return {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}


def layer_rates(names: Sequence[str], embeddings: set[str], decay: float) -> dict[str, float]:
    """1 for a stack's top layer and what lies above it, times `decay` for each layer below, once more for embeddings.

    Layers are counted in the names: `model.layers.3.mlp.up_proj.weight` lies in layer 3 of the stack `model.layers`.
    An encoder and a decoder are two stacks. An output layer lies above the layers unless it is tied to the
    `embeddings` (Howard and Ruder 2018; Clark et al. 2020).
    """
    places = {name: (found[1], int(found[2])) for name in names if (found := LAYER.match(name))}
    heights: dict[str, int] = {}
    for stack, layer in places.values():
        heights[stack] = max(heights.get(stack, 0), layer + 1)
    deepest = max(heights.values(), default=0)
    found = {}
    for name in names:
        if name in places:
            stack, layer = places[name]
            below = heights[stack] - 1 - layer
        else:
            below = deepest if name in embeddings else 0
        found[name] = decay**below
    if decay != 1 and len(set(found.values())) == 1:
        raise UserError(
            f"train.layer_decay = {decay:g} changes nothing here: what trains does not lie in several layers "
            f"({', '.join(names[:3])}): leave it out"
        )
    return found


def name_rates(names: Sequence[str], rates: Mapping[str, float]) -> dict[str, float]:
    """The product of the rates whose pattern stands in the name: `{lora_B: 16}` is LoRA+ (Hayou et al. 2024)."""
    for pattern in rates:
        if not any(pattern in name for name in names):
            parts = {part for name in names for part in name.split(".") if not part.isdigit()}
            raise UserError(
                f"train.rates: '{pattern}' stands in the name of nothing that trains: {did_you_mean(pattern, parts)}"
            )
    return {name: prod(rate for pattern, rate in rates.items() if pattern in name) for name in names}
