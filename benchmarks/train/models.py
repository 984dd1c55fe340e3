"""The models of the benchmark: random weights in folders that both sides load, a tokenizer that knows the data."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from benchmarks.train.cases import SEED, Model

SPECIAL = ["<pad>", "</s>", "<unk>"]
PAD, STOP = 0, 1


def make(model: Model, folder: Path, texts: Path) -> Path:
    """The folder of a model; its tokenizer has learnt `texts` (DialogSum's rows), and may know fewer tokens."""
    if not (folder / "config.json").is_file():
        torch.manual_seed(SEED)
        made = T5ForConditionalGeneration(_t5(model)) if model.encoder_decoder else LlamaForCausalLM(_llama(model))
        if model.encoder_decoder:  # transformers draws it so wide that losses begin at hundreds of nats
            made.lm_head.weight.data *= model.hidden**-0.5
        made.save_pretrained(folder)
        tokenizer(model.vocabulary, texts, model.context).save_pretrained(folder)
    return folder


def _llama(model: Model) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=model.vocabulary,
        hidden_size=model.hidden,
        intermediate_size=model.inner,
        num_hidden_layers=model.layers,
        num_attention_heads=model.heads,
        num_key_value_heads=model.heads,
        head_dim=model.head,
        max_position_embeddings=model.context,
        tie_word_embeddings=False,
        pad_token_id=PAD,
        bos_token_id=STOP,
        eos_token_id=STOP,
    )


def _t5(model: Model) -> T5Config:
    return T5Config(
        vocab_size=model.vocabulary,
        d_model=model.hidden,
        d_kv=model.head,
        d_ff=model.inner,
        num_layers=model.layers,
        num_decoder_layers=model.layers,
        num_heads=model.heads,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=PAD,
        eos_token_id=STOP,
        **{"tie_word_embeddings": False, "n_positions": model.context, "decoder_start_token_id": PAD},
    )


def tokenizer(size: int, texts: Path, longest: int) -> PreTrainedTokenizerFast:
    """Byte-level pairs of the data."""
    made = Tokenizer(BPE(unk_token="<unk>"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    made.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=size, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False)
    made.train_from_iterator(_lines(texts), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=made,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=longest,
    )


def _lines(texts: Path) -> Iterator[str]:
    with texts.open(encoding="utf-8") as file:
        for line in file:
            row: dict[str, Any] = json.loads(line)
            yield row["dialogue"]
            yield row["summary"]
