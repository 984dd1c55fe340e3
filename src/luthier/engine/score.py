"""The likelihood of given answers, row by row: validation, perplexity and preflight use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from luthier.core.progress import bar
from luthier.core.shards import Example
from luthier.engine.batches import Layout, collate
from luthier.engine.forward import boundaries, forward
from luthier.engine.steps import micro_batches
from luthier.methods.contract import Trainable

LOSS = "loss"  # the name under which the mean is a metric
VALIDATION_ANSWERS = 100  # answers cost more than losses: a validation asks for those of at most so many rows


@dataclass(frozen=True)
class RowLoss:
    """Per row: `nll` (rows,) in nats summed over the labelled tokens, and how many these are, `tokens` (rows,)."""

    nll: np.ndarray
    tokens: np.ndarray

    @property
    def mean(self) -> float:
        """Nats per labelled token over all rows."""
        return float(self.nll.sum() / max(self.tokens.sum(), 1))


def score(
    trainable: Trainable,
    examples: Sequence[Example],
    layout: Layout,
    tokens_per_batch: int = 8192,
    title: str = "scoring",
) -> RowLoss:
    """The loss of each example, in fp32, without dropout, whatever their order or number."""
    nll, tokens = np.zeros(len(examples)), np.zeros(len(examples), dtype=np.int64)
    lengths = np.array([len(e.input_ids) + len(e.labels) * layout.encoder_decoder for e in examples], dtype=np.int64)
    groups = micro_batches(np.arange(len(examples)), lengths, tokens_per_batch, layout.packed)
    model = trainable.model
    training = model.training
    model.eval()
    with torch.no_grad(), bar(title, len(examples)) as progress:
        for group in groups:
            batch = collate([examples[i] for i in group], layout, model.device)
            with boundaries(batch):
                logits = forward(model, batch).logits.float()
            each = F.cross_entropy(logits, batch.labels, reduction="none").double().cpu()
            owner = batch.owner.cpu()
            nll[group] = torch.zeros(len(group), dtype=torch.double).index_add_(0, owner, each).numpy()
            tokens[group] = torch.bincount(owner, minlength=len(group)).numpy()
            progress.advance(len(group))
    model.train(training)
    return RowLoss(nll, tokens)
