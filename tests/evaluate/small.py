"""A base of toy width with a tokenizer of whole words, its shards, and variants saved without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from luthier.chat.template import template_for
from luthier.core.artefacts import Artefacts
from luthier.core.records import Origin, PromptCompletion, Record, Text, to_json
from luthier.core.shards import write_shard
from luthier.methods import METHODS
from luthier.models.load import load_base
from luthier.recipe.load import parse
from luthier.recipe.sections import EvaluateSection

WORDS = [
    "the",
    "cat",
    "dog",
    "bird",
    "sat",
    "ran",
    "flew",
    "on",
    "over",
    "mat",
    "tree",
    "house",
    "red",
    "blue",
    "old",
]
SENTINELS = [f"<extra_id_{i}>" for i in range(8)]


def save_base(folder: Path, family: str) -> Path:
    """Write a model with random weights and its tokenizer; 0 is padding, 1 ends a text, 2 is unknown."""
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS, *SENTINELS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=64, **special).save_pretrained(folder)
    ids = {"vocab_size": len(vocabulary), "pad_token_id": 0, "eos_token_id": 1}
    torch.manual_seed(1)
    if family == "t5":
        sizes = {"d_model": 16, "d_kv": 4, "d_ff": 32, "num_layers": 1, "num_heads": 2}
        model = T5ForConditionalGeneration(T5Config(**ids, **sizes, decoder_start_token_id=0, n_positions=64))
    else:
        sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        model = LlamaForCausalLM(LlamaConfig(**ids, **sizes, max_position_embeddings=64, bos_token_id=None))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.4)
    model.save_pretrained(folder)
    return folder


def questions(count: int, seed: int, long: int = 0) -> list[Record]:
    """Rows of random words: a prompt and its answer."""
    generator = torch.Generator().manual_seed(seed)

    def said(most: int) -> str:
        length = int(torch.randint(2, most, (1,), generator=generator)) + long
        return " ".join(WORDS[int(i)] for i in torch.randint(0, len(WORDS), (length,), generator=generator))

    rows = [(said(9), said(5)) for _ in range(count)]
    return [
        PromptCompletion(p, a, Origin("toy", "toy.jsonl", i), fields={"text": p}) for i, (p, a) in enumerate(rows)
    ]


def texts(count: int) -> list[Record]:
    """Rows of running text."""
    return [Text(row.prompt, row.origin) for row in questions(count, 5) if isinstance(row, PromptCompletion)]


def prepare(
    folder: Path,
    family: str,
    test: list[Record],
    train: list[Record],
    general: Sequence[Record] = (),
    **evaluate: Any,
) -> Any:
    """The section and inputs of stage 5 with two untrained variants, `same` and `lora`, in a run folder."""
    base = save_base(folder / "base", family)
    objective = "text" if isinstance(test[0], Text) else "sft"
    variants = {"same": {"method": "full"}, "lora": {"method": {"name": "lora", "rank": 2}}}
    recipe = parse(
        {
            "name": "toy",
            "model": {"base": str(base), "context": 64},
            "data": {"sources": "toy.jsonl", "split": {"general": "other.jsonl"} if general else {}},
            "train": {"objective": objective, "variants": variants},
            "evaluate": {"max_new_tokens": 6, "resamples": 200, **evaluate},
        }
    )
    values = {name: getattr(recipe, name) for name in EvaluateSection.model_fields}
    run = folder / "run"
    for name, records in (("train", train), ("test", test), *([("general", general)] if general else [])):
        loaded = load_base(recipe.model)
        template = template_for(loaded.tokenizer, recipe.data, loaded.encoder_decoder)
        examples = [template.render(record) for record in records]
        rows = [to_json(record) for record in records]
        write_shard(run / "1-data" / name, examples, rows, [0] * len(rows), ["toy"])
    for name in recipe.train.names:
        loaded = load_base(recipe.model)
        named = recipe.train.variant(name).method
        method = METHODS[named.name]
        config = method.config(**named.options)
        model = run / "4-train" / name / "model"
        model.mkdir(parents=True)
        method.save(method.prepare(loaded.model, config, 0), model, config, loaded.name)
    out = run / "5-evaluate"
    out.mkdir()
    return EvaluateSection(**values), Artefacts(run, {"data": run / "1-data"}), out
