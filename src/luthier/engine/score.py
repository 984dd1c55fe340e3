"""The likelihood of given answers, row by row: validation, perplexity and preflight use it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from luthier.core.errors import UserError
from luthier.core.events import warn
from luthier.core.progress import bar
from luthier.core.shards import Example
from luthier.engine.batches import Layout, collate
from luthier.engine.forward import boundaries, forward
from luthier.engine.frozen.replay import Around, computed
from luthier.engine.memory import ran_out
from luthier.engine.placement.shares import Share, share_out
from luthier.engine.placement.world import ALONE, World
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
    world: World = ALONE,
    around: Around = computed,
) -> RowLoss:
    """The loss of each example, in fp32, without dropout, whatever their order or number; shared out over a world.

    `around` is what the forward pass of each batch runs in.
    """
    nll, tokens = np.zeros(len(examples)), np.zeros(len(examples), dtype=np.int64)
    lengths = np.array([len(e.input_ids) + len(e.labels) * layout.encoder_decoder for e in examples], dtype=np.int64)
    groups = micro_batches(np.arange(len(examples)), lengths, tokens_per_batch, layout.packed)
    model = trainable.model
    training = model.training
    model.eval()
    with torch.no_grad(), bar(title, len(examples)) as progress:
        shares = share_out(groups, lengths, world.share, world.shares)
        while shares:
            share = shares.pop(0)
            group = share.rows
            batch = collate([examples[i] for i in group], layout, world.device or model.device)
            try:
                with boundaries(batch), around(batch):
                    each = forward(model, batch).nll(batch.labels).double().cpu()
            except RuntimeError as error:
                shares = [*_halves(share, lengths, world, error), *shares]
                continue
            if share.idle:
                continue
            owner = batch.owner.cpu()
            nll[group] = torch.zeros(len(group), dtype=torch.double).index_add_(0, owner, each).numpy()
            tokens[group] = torch.bincount(owner, minlength=len(group)).numpy()
            progress.advance(len(group))
    model.train(training)
    return RowLoss(np.array(world.total(nll.tolist())), np.array(world.total(tokens.tolist()), dtype=np.int64))


def _halves(share: Share, lengths: np.ndarray, world: World, error: RuntimeError) -> list[Share]:
    """The rows of a batch that memory did not suffice for, in two; raises any other error.

    Processes that share a model go through it together: one of them alone cannot take two batches for one.
    """
    if not ran_out(error) or world.size > 1:
        raise error
    rows = share.rows
    if len(rows) == 1:
        raise UserError(
            f"a row of {lengths[rows[0]]} tokens does not fit into memory when it is scored: lower model.context, or "
            "take a smaller model"
        ) from error
    warn("engine.memory", f"out of memory at {len(rows)} rows: scoring them in two halves, same result")
    return [Share(rows[: len(rows) // 2]), Share(rows[len(rows) // 2 :])]
