"""Something to serve: toy models whose tokens are single characters, and adapters that change their answers."""

from __future__ import annotations

from pathlib import Path

import torch

from luthier.chat.template import template_for
from luthier.generation.engine import Engine, Ticket
from luthier.generation.prompts import prompts_of
from luthier.generation.request import Request, Sampling
from luthier.generation.served import Served, attach, serve
from luthier.methods import METHODS
from luthier.methods.contract import Trainable
from luthier.models.load import Base
from luthier.recipe.schema import Data
from tests.chat.small import bytes_tokenizer
from tests.toy_models import VOCABULARY, toy_model

LENGTHS = (3, 9, 1, 17, 9, 5, 30)
CONTEXT = 64


def prompts() -> list[list[int]]:
    """Token ids of unequal length."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, VOCABULARY, (length,), generator=generator).tolist() for length in LENGTHS]


def served(family: str, context: int = CONTEXT) -> Served:
    """A toy model and nothing else."""
    model, tokenizer = toy_model(family), bytes_tokenizer()
    encoder_decoder = bool(model.config.is_encoder_decoder)
    base = Base("toy", model, tokenizer, family, encoder_decoder, context, longest=context, packed=False)
    template = template_for(tokenizer, Data(sources={}.fromkeys(["none"], "none.jsonl")), encoder_decoder)
    return serve(base, "toy", prompts_of(template, {"prompt-completion"}), Path())


def trained(family: str, method: str, seed: int, folder: Path, **options) -> Trainable:
    """A toy model with a part on it that is not what training starts from, saved into the folder."""
    entry = METHODS[method]
    config = entry.config(**options)
    trainable = entry.prepare(toy_model(family), config, seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in trainable.parameters.values():
            parameter += 0.5 * torch.randn(parameter.shape, generator=generator)
    entry.save(trainable, folder, config, "toy")
    trainable.model.eval()
    return trainable


def add(to: Served, name: str, method: str, folder: Path) -> None:
    """Serve what was saved."""
    to.adapters[name] = attach(to, METHODS[method], folder, to.itself.prompts, Path(), name)


def greedy(new: int, **options) -> Sampling:
    """Greedy answers of so many tokens."""
    return Sampling(max_new_tokens=new, **options)


def ask(engine: Engine, prompt: list[int], sampling: Sampling, adapter: str | None = None) -> Ticket:
    """A request put into the queue."""
    return engine.submit(Request(tuple(prompt), sampling, adapter))


def said(ticket: Ticket) -> str:
    """The whole answer."""
    return "".join(piece.text for piece in ticket)


def text(tokens: list[int]) -> str:
    """What the toy tokenizer makes of tokens."""
    return bytes_tokenizer().decode(tokens, skip_special_tokens=True)
