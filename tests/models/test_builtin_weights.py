"""The models that ship with Luthier: as small as promised, and as good on fresh text as their cards say."""

from __future__ import annotations

import math
import re

import pytest
import torch
from torch.nn.functional import cross_entropy

from luthier.data.builtin import rows
from luthier.models.load import load_base
from luthier.models.resolve import BUILTIN
from luthier.recipe.schema import Model

DECODERS = ("bloom", "llama")


def card(name: str, pattern: str) -> float:
    found = re.search(pattern, (BUILTIN / name / "README.md").read_text(encoding="utf-8"))
    assert found, pattern
    return float(found[1].replace(",", ""))


@pytest.mark.parametrize("name", ["t5", *DECODERS])
def test_it_is_small_and_has_the_parameters_that_its_card_names(name):
    weights = BUILTIN / name / "model.safetensors"
    assert weights.stat().st_size <= 6_000_000
    base = load_base(Model(base=f"builtin:{name}"))
    assert sum(p.numel() for p in base.model.parameters()) == card(name, r"([\d,]+) parameters")


@pytest.mark.parametrize("name", DECODERS)
def test_fresh_text_costs_what_the_card_says(name):
    """Documents of a seed that nothing was trained or measured on; their chance in the choice is some 5 %."""
    base = load_base(Model(base=f"builtin:{name}"))
    nats = size = 0.0
    with torch.no_grad():
        for row in rows("corpus-heldout", 4711, 60):
            ids = torch.tensor(base.tokenizer(row["text"]).input_ids[:256])
            nats += cross_entropy(base.model(ids[None]).logits[0, :-1], ids[1:], reduction="sum").item()
            size += len(base.tokenizer.decode(ids.tolist(), skip_special_tokens=True).encode())
    assert nats / math.log(2) / size == pytest.approx(card(name, r"([\d.]+) bits per byte"), rel=0.15)


def test_each_is_a_base_of_its_architecture():
    bloom, llama = (load_base(Model(base=f"builtin:{name}")) for name in DECODERS)
    assert bloom.model.config.model_type == "bloom" and bloom.packed
    config = llama.model.config
    assert config.num_attention_heads == 3 * config.num_key_value_heads and llama.packed
    chat = [{"role": "user", "content": "Hello"}]
    assert llama.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) == (
        "<s>User: Hello\nAssistant:"
    )


def test_a_base_knows_the_facts_that_it_read():
    """Greedily: 'The capital of France is' -> ' Paris', which the generator says in many documents."""
    base = load_base(Model(base="builtin:bloom"))
    ids = torch.tensor([base.tokenizer("The capital of France is").input_ids])
    with torch.no_grad():
        said = base.model.generate(ids, max_new_tokens=2, do_sample=False)[0, ids.shape[1] :]
    assert "Paris" in base.tokenizer.decode(said)
