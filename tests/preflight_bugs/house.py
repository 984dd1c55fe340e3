"""A small clean set-up in which each bug is planted: a model folder, rows, and the stages that read them."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AddedToken,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from luthier.core.artefacts import Artefacts
from luthier.core.records import Record, from_json
from luthier.core.shards import Example, Shard, write_shard
from luthier.data import stage as data_stage
from luthier.engine.job import Job, build, draw
from luthier.plan.collect import collect
from luthier.plan.preflight import examine
from luthier.plan.subject import Subject
from luthier.recipe.load import parse
from luthier.recipe.schema import Recipe
from luthier.recipe.sections import DataSection

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", *(f"<extra_id_{i}>" for i in range(8)))
ALL_WORDS = """amber bridge candle dragon engine forest garden harbour island jungle kettle lantern meadow needle
ocean palace quarry river saddle tower umbrella valley winter yellow zebra"""
WORDS = ALL_WORDS.split()
ROWS, HELD_OUT, CONTEXT = 24, 4, 256
SYSTEM = "You answer in five plain words."


def sentence(seed: int, words: int = 8) -> str:
    """Words in random order: no two sentences are alike."""
    return " ".join(random.Random(seed).choices(WORDS, k=words))


def chats(rows: int = ROWS) -> list[dict[str, Any]]:
    """Conversations of two exchanges under a system message."""
    roles = ("system", "user", "assistant", "user", "assistant")
    texts = [[SYSTEM, *(sentence(10 * row + i, 5) for i in range(4))] for row in range(rows)]
    return [{"messages": [{"role": r, "content": t} for r, t in zip(roles, row, strict=True)]} for row in texts]


def pairs(rows: int = ROWS) -> list[dict[str, Any]]:
    """Prompts and answers."""
    return [{"prompt": sentence(20 * row), "completion": sentence(20 * row + 1, 5)} for row in range(rows)]


def tokenizer_of(kind: str, special: Iterable[str] = SPECIAL) -> PreTrainedTokenizerFast:
    """A byte tokenizer that learnt the words; `plain` begins texts with BOS and pads with its end token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=420, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([" ".join(WORDS), "user assistant system answer question"] * 9, trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    if kind == "plain":
        begin = ("<s>", tokenizer.token_to_id("<s>"))
        tokenizer.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[begin])
    if kind == "t5":
        end = ("</s>", tokenizer.token_to_id("</s>"))
        tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[end])
    pad = "</s>" if kind == "plain" else "<pad>"
    names = {"bos_token": "<s>"} if kind == "plain" else {}
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", pad_token=pad, **names)
    made.chat_template = CHATML if kind == "chat" else None
    return made


def model_folder(folder: Path, kind: str, tokenizer: PreTrainedTokenizerFast | None = None) -> Path:
    """A tiny model with random weights and its tokenizer, as transformers saves them."""
    tokenizer = tokenizer or tokenizer_of(kind)
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    torch.manual_seed(0)
    if kind == "t5":
        model = T5ForConditionalGeneration(
            T5Config(
                **sizes,
                d_model=16,
                d_kv=4,
                d_ff=32,
                num_layers=2,
                num_heads=4,
                decoder_start_token_id=0,
                n_positions=256,
            )
        )
    else:
        model = LlamaForCausalLM(
            LlamaConfig(
                **sizes,
                hidden_size=16,
                intermediate_size=32,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=CONTEXT,
            )
        )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@dataclass(frozen=True)
class House:
    """One set-up: `kind` is chat, plain or t5; `recipe` holds what its recipe says beyond the clean one."""

    folder: Path
    kind: str
    rows: list[dict[str, Any]]
    model: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    train: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: PreTrainedTokenizerFast | None = None

    @property
    def recipe(self) -> Recipe:
        return parse(
            {
                "name": "house",
                "model": {"base": str(self.folder / "model"), **self.model},
                "data": {
                    "sources": str(self.folder / "rows.jsonl"),
                    "split": {"validation": HELD_OUT, "test": HELD_OUT},
                    **self.data,
                },
                "train": {"tokens_per_step": 1024, "micro_tokens": 512, **self.train},
            }
        )

    @property
    def shards(self) -> Path:
        """The folder of the data stage."""
        return self.folder / "1-data"

    def build(self) -> House:
        """Write model and rows, and run the data stage."""
        model_folder(self.folder / "model", self.kind, self.tokenizer)
        lines = [json.dumps(row, ensure_ascii=False) for row in self.rows]
        (self.folder / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
        self.shards.mkdir(exist_ok=True)
        recipe = self.recipe
        section = DataSection(seed=recipe.seed, model=recipe.model, data=recipe.data)
        data_stage.run(section, Artefacts(self.folder, {}), self.shards)
        return self

    def rewrite(
        self,
        example: Callable[[Example, Record], Example] = lambda example, record: example,
        record: Callable[[dict[str, Any]], dict[str, Any]] = lambda body: body,
    ) -> House:
        """The training shard as another renderer, or another reader, would have written it; changes the set-up."""
        shard = Shard(self.shards / "train")
        records = list(shard.rows)
        examples = [example(shard[row], from_json(body)) for row, body in enumerate(records)]
        write_shard(shard.folder, examples, [record(body) for body in records], [0] * len(records), shard.sources)
        return self

    def job(self, variant: str = "full") -> Job:
        """The training job of a variant."""
        recipe = self.recipe
        return build(recipe.seed, recipe.model, recipe.data, recipe.train.variant(variant), self.shards)

    def subject(self, job: Job | None = None, untrained: tuple[str, ...] = ()) -> Subject:
        """What the preflight looks at."""
        return collect(job or self.job(), self.recipe.model, self.recipe.data, self.shards, untrained)


def house(folder: Path, kind: str, **changes: Any) -> House:
    """A clean set-up of a kind, with changes."""
    rows = chats() if kind == "chat" else pairs()
    return replace(House(folder, kind, rows), **changes).build()


def first_batch(job: Job) -> Any:
    """The largest batch of the first step."""
    return draw(job, 0, job.settings.micro_tokens)[0]


def alarms(subject: Subject) -> dict[str, str]:
    """The checks that are not ok, and what they are."""
    return {name: finding.status for name, finding in examine(subject).items() if finding.status != "ok"}
