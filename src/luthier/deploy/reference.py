"""What a trained variant says on the test rows: the measure of all its exports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from luthier.core.errors import UserError
from luthier.core.files import read_json
from luthier.core.records import Conversation, PromptCompletion, Record, Text
from luthier.core.shards import Example, Shard
from luthier.deploy.reload import generation_facts, token_facts
from luthier.deploy.trained import Trained
from luthier.generation.generate import generate

ROWS = 32  # test rows that are compared, evenly spaced
VALUES = 2**25  # logits that are compared: 128 MiB in fp32; of a larger vocabulary fewer positions
ANSWERS, ANSWER_TOKENS = 8, 16
SPECIALS = 40  # special tokens of a tokenizer that are looked at within a text

TEXTS = (
    "Plain words, then 12 345.",
    "  Two  spaces,\ta tab\n\nand a new paragraph \n",
    "CAPITALS and accents: Å ß İ, é composed, e\u0301 not",
    "ﬁ ① Ⅷ ａｂｃ are letters to some",
    "don't … “quoted” — dashed; 日本語 العربية 🙂👍🏽",
)
"""Texts in which tokenizers differ: spaces, case, composition, compatibility forms, punctuation, scripts."""


@dataclass(frozen=True)
class Reference:
    """The trained model's side of the comparison.

    `rows` hold `inputs` (token ids by the model's names for them) and `at`, the compared positions; `logits` (N, V)
    are those of all rows' positions in fp32. `prompts` hold `text` or `messages`, `prompt_ids` what training makes
    of them; `answers` belong to the prompts at `asked`. `rendered_with` is the template that stage 1 used.
    """

    rows: list[dict[str, Any]]
    logits: Tensor
    prompts: list[dict[str, Any]]
    prompt_ids: list[list[int]]
    asked: list[int]
    answers: list[list[int]]
    texts: list[str]
    text_ids: list[list[int]]
    tokens: dict[str, Any]
    generation: dict[str, Any]
    template: dict[str, Any]
    fingerprint: str
    rendered_with: str


def take(trained: Trained) -> Reference:
    """Ask the trained variant; UserError where there are no test rows."""
    data = trained.run / "1-data"
    shard = Shard(data / "test")
    if not len(shard):
        raise UserError("an export is compared on test rows, and there are none: raise data.split.test, such as 10%")
    chosen = _spread(len(shard), ROWS)
    records = [shard.records[row] for row in chosen]
    rows = [_row(trained, shard[row], len(chosen)) for row in chosen]
    prompts = [(prompt, record) for record in records if (prompt := asked_as(trained, record)) is not None]
    ids = [trained.template.prompt_ids(record) for _, record in prompts]
    asked = _answerable(trained, ids)
    texts = [*TEXTS, *_special_texts(trained)]
    tokenizer = trained.base.tokenizer
    return Reference(
        rows=rows,
        logits=torch.cat([logits_of(trained, row) for row in rows]),
        prompts=[prompt for prompt, _ in prompts],
        prompt_ids=ids,
        asked=asked,
        answers=_answers(trained, [ids[at] for at in asked]),
        texts=texts,
        text_ids=[tokenizer(text)["input_ids"] for text in texts],
        tokens=token_facts(tokenizer),
        generation=generation_facts(trained.generation),
        template=trained.template.describe(),
        fingerprint=trained.template.fingerprint,
        rendered_with=read_json(data / "template.json")["fingerprint"],
    )


def asked_as(trained: Trained, record: Record) -> dict[str, Any] | None:
    """The prompt of a record as its user would write it; None for running text and plain conversations.

    A conversation without a chat template is written in pieces with stop tokens between: no text stands for it.
    """
    system, chat = trained.template.data.system, trained.template.renderer.kind == "chat"
    if isinstance(record, Text) or (isinstance(record, Conversation) and not chat):
        return None
    if isinstance(record, PromptCompletion) and not chat:
        return {"text": record.prompt if system is None else f"{system}\n\n{record.prompt}"}
    turns = [{"role": "user", "content": record.prompt}] if isinstance(record, PromptCompletion) else []
    if isinstance(record, Conversation):
        turns = [{"role": message.role, "content": message.content} for message in record.messages[:-1]]
    if system is not None and all(turn["role"] != "system" for turn in turns):
        turns.insert(0, {"role": "system", "content": system})
    return {"messages": turns}


def _spread(count: int, most: int) -> list[int]:
    """At most `most` of `count` places, evenly spaced, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int)).tolist()


def _row(trained: Trained, example: Example, rows: int) -> dict[str, Any]:
    inputs = {"input_ids": example.input_ids.tolist()}
    spoken = inputs["input_ids"]
    if trained.base.encoder_decoder:
        start: Any = trained.base.model.config.decoder_start_token_id
        spoken = inputs["decoder_input_ids"] = [start, *example.labels[:-1].tolist()]
    size: Any = trained.base.model.get_output_embeddings()
    return {"inputs": inputs, "at": _spread(len(spoken), max(1, VALUES // (rows * len(size.weight))))}


def logits_of(trained: Trained, row: dict[str, Any]) -> Tensor:
    """The trained model's logits (N, V) at the row's positions, its virtual tokens put before the input."""
    model = trained.trainable.model
    inputs = dict(row["inputs"])
    spoken = len(inputs.get("decoder_input_ids", inputs["input_ids"]))
    inputs["input_ids"] = [*trained.trainable.prefix, *inputs["input_ids"]]
    with torch.no_grad():
        tensors = {name: torch.tensor([ids], device=model.device) for name, ids in inputs.items()}
        found = model(**tensors, use_cache=False).logits[0]
    return found[len(found) - spoken :][torch.tensor(row["at"], device=found.device)].float().cpu()


def _answerable(trained: Trained, prompts: Sequence[Sequence[int]]) -> list[int]:
    """The prompts to be answered: some that leave room for an answer."""
    room = trained.base.context - ANSWER_TOKENS - len(trained.trainable.prefix)
    fits = [at for at, ids in enumerate(prompts) if trained.base.encoder_decoder or len(ids) <= room]
    return [fits[place] for place in _spread(len(fits), ANSWERS)] if fits else []


def _answers(trained: Trained, prompts: Sequence[Sequence[int]]) -> list[list[int]]:
    pad = trained.base.tokenizer.pad_token_id
    return generate(
        trained.trainable.model,
        prompts,
        pad=pad if isinstance(pad, int) else 0,
        stop=trained.template.stop_ids,
        max_new_tokens=ANSWER_TOKENS,
        prefix=trained.trainable.prefix,
        title="answering as trained",
    )


def _special_texts(trained: Trained) -> list[str]:
    """Each special token within a text, with and without spaces around it: the stop tokens first."""
    tokenizer = trained.base.tokenizer
    known = [token.content for token in tokenizer.added_tokens_decoder.values()]
    stops = [str(token) for token in tokenizer.convert_ids_to_tokens(list(trained.template.stop_ids))]
    chosen = list(dict.fromkeys([*stops, *known]))[:SPECIALS]
    return [f"word{token}word {token} word" for token in chosen]
