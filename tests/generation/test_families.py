"""Families whose attention or positions are out of the ordinary: answered rightly, or refused in a sentence."""

from __future__ import annotations

import pytest
import torch
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    Lfm2Config,
    Lfm2ForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedModel,
)

from luthier.core.errors import UserError
from luthier.generation.engine import Engine
from luthier.generation.generate import generate
from luthier.generation.lane import joins
from tests.generation.house import ask, greedy, prompts, said, served, text
from tests.toy_models import FAMILIES, VOCABULARY, toy_model

NO_TOKENS = {"bos_token_id": None, "eos_token_id": None}


def seeded(model: PreTrainedModel) -> PreTrainedModel:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim >= 2:
            torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return model.eval()


def windowed() -> PreTrainedModel:
    """Every query sees four tokens."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    heads = {"num_key_value_heads": 2, "sliding_window": 4}
    return seeded(MistralForCausalLM(MistralConfig(vocab_size=VOCABULARY, **sizes, **heads, **NO_TOKENS)))


def counted() -> PreTrainedModel:
    """Learnt positions, read off the mask."""
    sizes = {"hidden_size": 32, "ffn_dim": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"word_embed_proj_dim": 32, "max_position_embeddings": 128, "pad_token_id": 0}
    return seeded(OPTForCausalLM(OPTConfig(vocab_size=VOCABULARY, **sizes, **ends, **NO_TOKENS)))


def from_the_start() -> PreTrainedModel:
    """A decoder whose learnt positions count from the batch's first column."""
    sizes = {"d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 128}
    layers = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    ends = {"pad_token_id": 0, "decoder_start_token_id": 2, "forced_eos_token_id": None}
    return seeded(
        BartForConditionalGeneration(BartConfig(vocab_size=VOCABULARY, **sizes, **layers, **ends, **NO_TOKENS))
    )


def transformers_says(model: PreTrainedModel, prompt: list[int], new: int) -> list[int]:
    ids = torch.tensor([prompt])
    answer = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=new)[0].tolist()
    return answer[1:] if model.config.is_encoder_decoder else answer[len(prompt) :]


@pytest.mark.parametrize(("make", "may_join"), [(windowed, True), (counted, True), (from_the_start, False)])
def test_answers_are_those_of_transformers_whether_rows_may_join_or_not(make, may_join, monkeypatch):
    expected = [transformers_says(make(), prompt, 9) for prompt in prompts()]
    assert generate(make(), prompts(), pad=0, stop=(), max_new_tokens=9) == expected
    monkeypatch.setattr("tests.generation.house.toy_model", lambda family: make())
    held = served("toy")
    with Engine(held, max_batch=3) as engine:
        tickets = [ask(engine, prompt, greedy(9 - i)) for i, prompt in enumerate(prompts())]
        assert [said(ticket) for ticket in tickets] == [text(row[: 9 - i]) for i, row in enumerate(expected)]
    assert joins(held.mixer.model, 0) is may_join


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_the_usual_families_may_join(family):
    with torch.no_grad():
        assert joins(toy_model(family), 0)


def test_a_state_that_is_no_key_and_value_is_refused():
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    kinds = {"num_key_value_heads": 2, "layer_types": ["conv", "full_attention"]}
    model = Lfm2ForCausalLM(Lfm2Config(vocab_size=VOCABULARY, **sizes, **kinds, **NO_TOKENS))
    with pytest.raises(UserError, match="a lfm2 keeps a state"):
        generate(model, prompts(), pad=0, stop=(), max_new_tokens=2)
