"""A training job in a fraction of a second: a toy model of any family, a tokenizer of words, and a few short rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from luthier.chat.template import template_for
from luthier.core.artefacts import Artefacts
from luthier.core.files import read_jsonl, write_json
from luthier.core.records import Origin, PromptCompletion, Record, Text, to_json
from luthier.core.shards import write_shard
from luthier.engine.backend import tuned
from luthier.engine.job import Job, build
from luthier.models.tokenizers import read_tokenizer
from luthier.recipe.schema import Data, Model, Training
from luthier.recipe.sections import TrainSection
from luthier.train import stage
from luthier.train.state import State
from tests.evaluate.small import SENTINELS, WORDS
from tests.toy_models import toy_model

DROPOUTS = ("dropout_rate", "resid_pdrop", "embd_pdrop", "attn_pdrop", "hidden_dropout", "attention_dropout")
SEED = 7
MACHINE = ("seconds", "memory_bytes", "tokens_per_second", "waiting", "cpu", "gpu")


def write_base(folder: Path, family: str, dropout: float = 0.0) -> Path:
    """Save a toy model with this dropout everywhere its family has one, and its tokenizer of words."""
    model = toy_model(family)
    if family == "t5":  # whose attention is not scaled: large weights would make it jump from token to token
        with torch.no_grad():
            for name, value in model.named_parameters():
                value.div_(4 if name.endswith((".q.weight", ".k.weight")) else 1)
    for name in DROPOUTS:
        if hasattr(model.config, name):
            setattr(model.config, name, dropout)
    model.save_pretrained(folder)
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", *WORDS, *SENTINELS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=words, model_max_length=64, **special).save_pretrained(folder)
    return folder


def questions(count: int, seed: int = 0) -> list[Record]:
    """Random words of unequal length; the answer is the first word and `house`."""
    generator = torch.Generator().manual_seed(seed)
    found: list[Record] = []
    for row in range(count):
        length = int(torch.randint(2, 14, (1,), generator=generator))
        said = [WORDS[int(i)] for i in torch.randint(0, len(WORDS), (length,), generator=generator)]
        found.append(PromptCompletion(" ".join(said), f"{said[0]} house", Origin("toy", "toy.jsonl", row)))
    return found


def texts(count: int, seed: int = 0) -> list[Record]:
    """Running text that says one sentence again and again, each from another word on."""
    sentence = ["the", "old", "cat", "sat", "on", "the", "red", "mat", "and", "ran", "over", "the", "house"]
    generator = torch.Generator().manual_seed(seed)
    found: list[Record] = []
    for row in range(count):
        start, length = (int(i) for i in torch.randint(6, 18, (2,), generator=generator))
        found.append(Text(" ".join((sentence * 4)[start : start + length]), Origin("toy", "toy.jsonl", row)))
    return found


def write_data(folder: Path, base: Path, train: Sequence[Record], validation: Sequence[Record]) -> Path:
    """Stage 1's folder for these rows, rendered as the stage renders them."""
    encoder_decoder = '"is_encoder_decoder": true' in (base / "config.json").read_text()
    template = template_for(read_tokenizer(base), DATA, encoder_decoder)
    for name, records in (("train", train), ("validation", validation)):
        examples = [template.render(record) for record in records]
        rows = [to_json(record) for record in records]
        write_shard(folder / name, examples, rows, [0] * len(rows), ["toy"])
    write_json(folder / "card.json", {"weights": {"toy": 1.0}})
    return folder


DATA = Data.model_validate({"sources": {"toy": "toy.jsonl"}})


def furnish(
    folder: Path, family: str = "llama", dropout: float = 0.0, rows: int = 24, objective: str = "sft"
) -> Path:
    """A folder with `base` and `data`: this many rows to train on and six to validate, fit for the objective."""
    write_base(folder / "base", family, dropout)
    make = texts if objective == "text" else questions
    write_data(folder / "data", folder / "base", make(rows), make(6, seed=1))
    return folder


def section(folder: Path, **training: Any) -> TrainSection:
    """The section of a job in this folder: steps of about 40 tokens, AdamW at 1e-2, a constant learning rate."""
    usual = {"tokens_per_step": 40, "micro_tokens": 40, "learning_rate": 1e-2, "schedule": "constant", "warmup": 0.0}
    return TrainSection(
        seed=SEED,
        model=Model(base=str(folder / "base")),
        data=DATA,
        training=Training.model_validate({**usual, "epochs": 1, **training}),
        max_new_tokens=4,
    )


def job_of(folder: Path, wanted: TrainSection) -> Job:
    """The job, ready for its first step."""
    return build(wanted.seed, wanted.model, wanted.data, wanted.training, folder / "data")


def inputs_of(folder: Path) -> Artefacts:
    """The stages before."""
    return Artefacts(folder, {"data": folder / "data"})


def not_asked(*arguments: Any) -> dict[str, float]:
    """The evaluator of a run that selects by the loss and has no use for it."""
    raise AssertionError("the loss selects: no answers are asked for")


def train(folder: Path, wanted: TrainSection, out: Path, job: Job | None = None) -> tuple[Job, State]:
    """Train from the newest checkpoint in `out`, or from the start, to the end; the job holds the last weights."""
    out.mkdir(parents=True, exist_ok=True)
    job = job or job_of(folder, wanted)
    with tuned(job.computation.device):
        return job, stage.train_from_checkpoint(wanted, inputs_of(folder), out, job, not_asked)


def weights(job: Job) -> dict[str, Tensor]:
    """What trains, as it is now."""
    return {name: value.detach().clone() for name, value in job.computation.trainable.parameters.items()}


def steps(out: Path) -> list[dict[str, Any]]:
    """The lines of the steps, without what the clock and the machine say."""
    lines = [line for line in read_jsonl(out / "metrics.jsonl") if "validation" not in line]
    return [{k: v for k, v in line.items() if k not in MACHINE} for line in lines]


def validations(out: Path) -> list[dict[str, Any]]:
    """The lines of the validations."""
    return [line for line in read_jsonl(out / "metrics.jsonl") if "validation" in line]


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 0.0) -> None:
    """The same tensors by name: to the bit, or to this share of the largest number of each."""
    assert one.keys() == other.keys()
    for name, value in one.items():
        if tolerance:
            assert (value - other[name]).abs().max() <= tolerance * value.abs().max(), name
        else:
            assert torch.equal(value, other[name]), name
