"""The part of a model below everything that trains, whatever the method: what it makes of a row never changes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from luthier.methods.contract import Trainable
from luthier.models.stack import decoder_layers, stack_of


@dataclass(frozen=True)
class Part:
    """Modules that are run one after another, the last of which gives the states that all above starts from.

    `share` is the part's share of the model's layers, `words` what it is in words.
    """

    modules: tuple[nn.Module, ...]
    share: float
    words: str


def frozen_part(trainable: Trainable) -> Part | None:
    """The lower layers of a decoder-only model, or the encoder of an encoder-decoder; None where something trains.

    A decoder's first layer reads the embeddings: what trains outside the layers is taken to lie below them all.
    """
    found = decoder_layers(trainable.model)
    if found is None:
        return None
    layers = found[1]
    if trainable.model.config.is_encoder_decoder:
        return _encoder(trainable, len(layers))
    lowest = {id(p): place for place, layer in reversed([*enumerate(layers)]) for p in layer.parameters()}
    first = min((lowest.get(id(p), 0) for p in trainable.parameters.values()), default=0)
    if not first:
        return None
    return Part(tuple(layers[:first]), first / len(layers), f"the lower {first} of {len(layers)} layers")


def _encoder(trainable: Trainable, above: int) -> Part | None:
    """The encoder, its embeddings among it; a decoder that trains a shared table trains the encoder's as well."""
    encoder = trainable.model.get_encoder()
    stack = stack_of(encoder)
    trains = {id(p) for p in trainable.parameters.values()}
    if stack is None or any(id(p) in trains for p in encoder.parameters()):
        return None
    return Part((encoder,), len(stack[1]) / (len(stack[1]) + above), "the encoder's layers")
