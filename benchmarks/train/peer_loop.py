"""The loop that people write for an encoder-decoder: padded batches, transformers, PEFT, AdamW."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft import PeftModel
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForSeq2SeqLM

from benchmarks.train.cases import CLIP
from benchmarks.train.examples import IGNORED, Row
from benchmarks.train.peer import Journal, Spec


def train(spec: Spec, journal: Journal) -> None:
    """Train."""
    steps = spec.steps()
    model: Any = AutoModelForSeq2SeqLM.from_pretrained(spec.model, dtype=spec.dtype)
    pad = model.config.pad_token_id
    if spec.adapter:
        model = PeftModel.from_pretrained(model, spec.adapter, is_trainable=True)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=spec.cell.rate, weight_decay=0.0)
    journal.start()
    for step in steps:
        apart = spec.peer.apart or len(step)
        said, total = sum(row.said for row in step), 0.0
        for start in range(0, len(step), apart):
            rows = step[start : start + apart]
            with torch.autocast("cpu", torch.bfloat16, enabled=spec.cell.precision == "bf16"):
                loss = model(**padded(rows, pad)).loss * sum(row.said for row in rows) / said
            loss.backward()
            total += loss.item()
        nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        optimizer.zero_grad()
        journal.step(total)


def padded(rows: Sequence[Row], pad: int) -> dict[str, torch.Tensor]:
    """A batch of rows padded to the longest."""
    ids = [torch.tensor(row.input_ids) for row in rows]
    labels = [torch.tensor(row.labels) for row in rows]
    return {
        "input_ids": pad_sequence(ids, batch_first=True, padding_value=pad),
        "attention_mask": pad_sequence([torch.ones_like(own) for own in ids], batch_first=True),
        "labels": pad_sequence(labels, batch_first=True, padding_value=IGNORED),
    }
