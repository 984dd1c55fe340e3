"""Tiny models of real architectures with random weights, made on the spot."""

from __future__ import annotations

import torch
from transformers import (
    BloomConfig,
    BloomForCausalLM,
    GemmaConfig,
    GemmaForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    T5Config,
    T5ForConditionalGeneration,
)

VOCABULARY = 53
_WIDTHS = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}


def toy_model(family: str, seed: int = 0) -> PreTrainedModel:
    """A model of a family (llama, qwen2, gpt2, bloom, t5, gemma) in fp32 and eval mode, its weights from the seed.

    Weights are larger than freshly initialised ones, so that greedy answers are not one token for ever. No id has a
    special meaning.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = _MAKE[family]()
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                torch.nn.init.normal_(parameter, std=1.0 if "relative_attention" in name else 0.3)
    return model.eval()


def _llama() -> PreTrainedModel:
    return LlamaForCausalLM(LlamaConfig(**_WIDTHS, bos_token_id=None, eos_token_id=None))


def _qwen2() -> PreTrainedModel:
    return Qwen2ForCausalLM(Qwen2Config(**_WIDTHS, tie_word_embeddings=True, bos_token_id=None, eos_token_id=None))


def _gemma() -> PreTrainedModel:
    return GemmaForCausalLM(
        GemmaConfig(**_WIDTHS, head_dim=8, bos_token_id=None, eos_token_id=None, pad_token_id=None)
    )


def _gpt2() -> PreTrainedModel:
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=VOCABULARY, n_embd=32, n_layer=2, n_head=4, bos_token_id=None, eos_token_id=None)
    )


def _bloom() -> PreTrainedModel:
    return BloomForCausalLM(
        BloomConfig(vocab_size=VOCABULARY, hidden_size=32, n_layer=2, n_head=4, bos_token_id=None, eos_token_id=None)
    )


def _t5() -> PreTrainedModel:
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=VOCABULARY,
            d_model=32,
            d_kv=8,
            d_ff=48,
            num_layers=2,
            num_heads=4,
            feed_forward_proj="gated-gelu",
            decoder_start_token_id=0,
            eos_token_id=None,
        )
    )


_MAKE = {"llama": _llama, "qwen2": _qwen2, "gpt2": _gpt2, "bloom": _bloom, "t5": _t5, "gemma": _gemma}
