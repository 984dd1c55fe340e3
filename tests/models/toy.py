"""Models of many families at toy width, random weights, evaluation mode."""

from __future__ import annotations

import torch
import transformers as hf
from transformers import PreTrainedModel

V = 97
END = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
GQA = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
GQA |= {"num_key_value_heads": 2, "vocab_size": V, **END}
PART = {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5}  # of each head is rotated


def make(family: str) -> PreTrainedModel:
    """A model of the family; weights are larger than usual so that an attention error shows."""
    torch.manual_seed(0)
    model = BUILD[family]().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


BUILD = {
    "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**GQA)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**GQA)),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**GQA, sliding_window=5)),
    "gemma3": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**GQA, head_dim=8, sliding_window=5)),
    "phi3": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**GQA, sliding_window=5, rope_parameters=PART)),
    "phi": lambda: hf.PhiForCausalLM(hf.PhiConfig(**GQA, rope_parameters=PART)),
    "gpt2": lambda: hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=V, n_embd=32, n_layer=2, n_head=4, **END)),
    "gemma2": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**GQA, head_dim=8)),
    "bloom": lambda: hf.BloomForCausalLM(hf.BloomConfig(vocab_size=V, hidden_size=32, n_layer=2, n_head=4, **END)),
    "opt": lambda: hf.OPTForCausalLM(
        hf.OPTConfig(
            vocab_size=V,
            hidden_size=32,
            ffn_dim=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            word_embed_proj_dim=32,
            **END,
        )
    ),
    "falcon": lambda: hf.FalconForCausalLM(
        hf.FalconConfig(vocab_size=V, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, **END)
    ),
    "mpt": lambda: hf.MptForCausalLM(hf.MptConfig(vocab_size=V, d_model=32, n_heads=4, n_layers=2)),
    "bart": lambda: hf.BartForCausalLM(
        hf.BartConfig(
            vocab_size=V, d_model=32, decoder_layers=2, decoder_attention_heads=4, decoder_ffn_dim=32, **END
        )
    ),
    "t5": lambda: hf.T5ForConditionalGeneration(
        hf.T5Config(vocab_size=V, d_model=32, d_ff=64, d_kv=8, num_layers=2, num_heads=4, decoder_start_token_id=0)
    ),
    "mamba": lambda: hf.MambaForCausalLM(hf.MambaConfig(vocab_size=V, hidden_size=32, num_hidden_layers=2, **END)),
}
