"""Attention by blocks against the plain formula, sequence by sequence, in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from luthier.models import blocks
from luthier.models.attend import attend
from luthier.models.blocks import cut

LENGTHS = [5, 7, 12, 3, 3, 9]
ALL = [np.arange(n) for n in LENGTHS]
SOME = [np.array(own) for own in ([3, 4], [1, 6], [11], [0], [], [2, 3, 5])]
OTHERS = [np.arange(n) for n in (2, 8, 3, 4, 1, 5)]
CASES = {
    "causal": (ALL, True, None, None),
    "window": (ALL, True, 4, None),
    "encoder": (ALL, False, None, None),
    "cross": (OTHERS, False, None, None),
    "labelled": (SOME, True, None, None),
    "labelled-window": (SOME, True, 3, None),
    "alibi": (ALL, True, None, 1),
    "relative": (ALL, False, None, 12),
}
SCALE, HEADS, SHARED, WIDTH = 0.3, 4, 2, 8


def plain(query, key, value, places, causal, window, bias):
    """Each sequence alone: softmax(scale q k + bias), hidden keys at minus infinity."""
    outs, q, k = [], 0, 0
    for own, length in zip(places, LENGTHS, strict=True):
        queries = query[q : q + len(own)].transpose(0, 1)
        keys, values = (
            part[k : k + length].repeat_interleave(HEADS // SHARED, 1).transpose(0, 1) for part in (key, value)
        )
        scores = SCALE * queries @ keys.transpose(1, 2)
        if bias is not None:
            scores = scores + bias[:, : len(own), :length]
        at, seen = torch.tensor(own, dtype=torch.long)[:, None], torch.arange(length)
        hidden = torch.zeros(len(own), length, dtype=torch.bool)
        if causal:
            hidden |= seen > at
        if window is not None:
            hidden |= seen <= at - window
        outs.append((scores.masked_fill(hidden, -torch.inf).softmax(-1) @ values).transpose(0, 1))
        q, k = q + len(own), k + length
    return torch.cat(outs)


def draw(places, bias_rows):
    generator = torch.Generator().manual_seed(0)

    def random(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_()

    query = random(sum(map(len, places)), HEADS, WIDTH)
    key, value = (random(sum(LENGTHS), SHARED, WIDTH) for _ in range(2))
    return query, key, value, None if bias_rows is None else random(HEADS, bias_rows, max(LENGTHS))


@pytest.mark.parametrize(
    ("whole", "stretch", "calls", "multiple"),
    [(640, 256, 6000, 16), (640, 256, 0, 1), (640, 256, 20, 4), (6, 4, 0, 1), (6, 4, 0, 8)],
)
@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients(monkeypatch, case, whole, stretch, calls, multiple):
    """However the sequences are cut: all in one block, each alone, some together, long ones in stretches."""
    for name, limit in (("WHOLE", whole), ("STRETCH", stretch), ("CALLS", calls), ("ROUND", multiple)):
        monkeypatch.setattr(blocks, name, limit)
    places, causal, window, bias_rows = CASES[case]
    query, key, value, bias = draw(places, bias_rows)
    found = attend(query, key, value, cut(places, LENGTHS, causal, window), SCALE, bias)
    expected = plain(query, key, value, places, causal, window, bias)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    weights = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    inputs = [part for part in (query, key, value, bias) if part is not None]
    ours = torch.autograd.grad((found * weights).sum(), inputs)
    theirs = torch.autograd.grad((expected * weights).sum(), inputs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_alike_sequences_share_a_block_and_unlike_ones_do_not(monkeypatch):
    monkeypatch.setattr(blocks, "CALLS", 100)
    lengths = [100, 100, 100, 40, 39]
    found = cut([np.arange(n) for n in lengths], lengths, True)
    # 112 with 48 would compute 10,240 scores of padding for a block's calls, worth 100; 48 with 48 none
    assert [(block.queries.count, block.queries.length) for block in found] == [(3, 112), (2, 48)], "multiples of 16"
    assert found[0].queries.real.tolist() == [slot for slot in range(336) if slot % 112 < 100]


def test_a_long_sequence_is_cut_and_looks_at_no_key_behind_a_stretch():
    (found,) = cut([np.arange(1000)], [1000], True)
    assert [(part.queries, part.keys) for part in found.stretches] == [
        (slice(at, min(at + 192, 1008)), slice(0, min(at + 192, 1008))) for at in range(0, 1000, 192)
    ]
    assert [part.first for part in found.stretches] == [0, 192, 384, 576, 768, 960], "all see what lies before"
    # 192 (192 + 384 + 576 + 768 + 960) + 48 x 1008 scores; a square of 640 is the most that is kept
    assert not found.kept
    assert cut([np.arange(800)], [800], True)[0].kept


def test_a_window_leaves_out_the_keys_before_it():
    (found,) = cut([np.arange(600)], [600], True, 100)
    # the first query of each stretch sees itself and 99 before it: from 93, 285 and 477, rounded down
    assert [part.keys for part in found.stretches] == [
        slice(0, 192),
        slice(80, 384),
        slice(272, 576),
        slice(464, 608),
    ]


def test_what_is_not_causal_is_cut_only_where_its_scores_are_too_many_to_keep():
    (whole,) = cut([np.arange(640)], [640], False)
    assert len(whole.stretches) == 1
    assert whole.kept
    (long,) = cut([np.arange(656)], [656], False)
    assert [part.queries.stop for part in long.stretches] == [192, 384, 576, 656]
    assert not long.kept


def test_dropout_zeroes_shares_and_keeps_the_mean():
    places, causal, _, _ = CASES["encoder"]
    query, key, _, _ = draw(places, None)
    ones = torch.ones(sum(LENGTHS), SHARED, 1, dtype=torch.float64).expand(-1, -1, WIDTH).clone().requires_grad_()
    torch.manual_seed(0)
    found = torch.stack(
        [attend(query, key, ones, cut(places, LENGTHS, causal), SCALE, None, 0.25).detach() for _ in range(400)]
    )
    assert found.std() > 0.05
    # the mean of 400 draws; each has a variance of at most 1/3 (all of a query's weight on one key)
    assert (found.mean(0) - 1).abs().max() < 5 * (1 / 3 / 400) ** 0.5


def test_dropout_gradient_is_that_of_the_shares_that_were_left():
    """By finite differences under the same draws."""
    places, causal, window, _ = CASES["causal"]
    query, key, value, _ = draw(places, None)
    cuts = cut(places, LENGTHS, causal, window)

    def loss(q, k, v):
        torch.manual_seed(3)
        return attend(q, k, v, cuts, SCALE, None, 0.5).square().sum()

    assert torch.autograd.gradcheck(loss, (query, key, value), eps=1e-6, atol=1e-5)
