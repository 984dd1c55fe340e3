"""Which rows make up which optimiser step: decided before training, by seed, whatever the memory allows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from luthier.core.shards import Shard


def row_lengths(shard: Shard, encoder_decoder: bool, prefix: int = 0) -> np.ndarray:
    """Tokens that each row costs (rows,): its input, an encoder-decoder's labels, and the virtual tokens."""
    labels = shard.label_lengths if encoder_decoder else 0
    return shard.input_lengths + labels + prefix


def row_weights(shard: Shard, weights: Mapping[str, float], on: Sequence[str]) -> np.ndarray:
    """How often each row is seen per epoch (rows,): its source's weight, 0 for sources not learnt from."""
    per_source = [weights.get(name, 1.0) if not on or name in on else 0.0 for name in shard.sources]
    return np.asarray(per_source, dtype=float)[shard.source] if len(shard) else np.zeros(0)


def validation_rows(shard: Shard, on: Sequence[str]) -> np.ndarray:
    """The rows that judge a training on these sources: theirs, or all where they have none in this shard."""
    own = np.flatnonzero(row_weights(shard, {}, on))
    return own if len(own) else np.arange(len(shard))


def epoch_order(weights: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The rows of one epoch in random order; a weight of 2.5 gives two copies and with probability 1/2 a third."""
    rng = np.random.default_rng([seed, epoch])
    copies = np.floor(weights + rng.random(len(weights))).astype(int)
    return rng.permutation(np.repeat(np.arange(len(weights)), copies))


def fill(order: np.ndarray, lengths: np.ndarray, budget: int) -> list[np.ndarray]:
    """The order cut into consecutive runs of at most `budget` tokens; a longer row stands alone."""
    cuts, used = [], 0
    for place, row in enumerate(order):
        used += lengths[row]
        if used > budget and place > (cuts[-1] if cuts else 0):
            cuts.append(place)
            used = lengths[row]
    return np.split(order, cuts) if len(order) else []


def plan_steps(
    weights: np.ndarray, lengths: np.ndarray, *, seed: int, epochs: float, budget: int, max_steps: int | None = None
) -> list[tuple[int, np.ndarray]]:
    """The (epoch, rows) of every step; of a last fraction of an epoch, the same fraction of its steps."""
    steps: list[tuple[int, np.ndarray]] = []
    for epoch in range(int(np.ceil(epochs))):
        of_epoch = fill(epoch_order(weights, seed, epoch), lengths, budget)
        share = min(epochs - epoch, 1.0)
        steps += [(epoch, rows) for rows in of_epoch[: max(round(share * len(of_epoch)), 1)]]
    return steps[:max_steps]


def micro_batches(rows: np.ndarray, lengths: np.ndarray, budget: int, packed: bool) -> list[np.ndarray]:
    """The rows of a step in groups of like length, each within the budget of tokens, padding included; longest first.

    A step's gradient is a sum over its rows, so that the grouping changes memory and speed, never the result.
    """
    rows = rows[np.argsort(-lengths[rows], kind="stable")]
    groups: list[list[int]] = []
    cost = budget + 1
    for row in rows:
        cost += lengths[row] if packed else lengths[groups[-1][0]] if groups else 0
        if cost > budget:
            groups.append([])
            cost = lengths[row]
        groups[-1].append(row)
    return [np.asarray(group) for group in groups]


def validation_steps(total: int, share: float) -> set[int]:
    """The steps after which to validate: the start, every `share` of the run, and the end; share 0: only the end."""
    if not share:
        return {total}
    count = max(round(1 / share), 1)
    return {round(total * i / count) for i in range(count + 1)}
