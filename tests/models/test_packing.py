"""Attention without padding: the same loss and gradients as one sequence at a time, or not used at all."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from luthier.models.attention import NAME, Boundaries
from luthier.models.packing import adopt, packed, self_test
from tests.models.toy import V, make

LENGTHS = (3, 17, 1, 9, 17)


def sequences() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(3, V, (n,), generator=generator) for n in LENGTHS]


def gradients(model) -> dict[str, torch.Tensor]:
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def one_by_one(model) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    total = torch.zeros(())
    for ids in sequences():
        logits = model(ids[None], use_cache=False).logits[0]
        loss = cross_entropy(logits[:-1], ids[1:], reduction="sum")
        loss.backward()
        total += loss.detach()
    return total, gradients(model)


def in_one_row(model) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    ids = torch.cat(sequences())
    positions = torch.cat([torch.arange(n) for n in LENGTHS])
    with packed(Boundaries(LENGTHS)):
        logits = model(ids[None], position_ids=positions[None], use_cache=False).logits[0]
        parts = zip(logits.split(LENGTHS), sequences(), strict=True)
        loss = sum(cross_entropy(part[:-1], row[1:], reduction="sum") for part, row in parts)
        loss.backward()
    return loss.detach(), gradients(model)


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral", "gemma3", "gpt2", "opt"])
def test_packed_equals_one_by_one(family):
    model = make(family)
    loss, gradient = one_by_one(model)
    assert adopt(model)
    assert model.config._attn_implementation == NAME
    for candidate, parts in (in_one_row(model), one_by_one(model)):
        torch.testing.assert_close(candidate, loss, rtol=1e-5, atol=0)
        scale = max(g.abs().max() for g in gradient.values())
        for name, expected in gradient.items():
            assert (parts[name] - expected).abs().max() <= 1e-5 * scale, name


@pytest.mark.parametrize("family", ["falcon", "mpt", "bart", "gemma2", "mamba"])
def test_families_with_other_attention_keep_it(family):
    model = make(family)
    before = model.config._attn_implementation
    assert not adopt(model)
    assert model.config._attn_implementation == before


def test_a_window_narrower_than_the_row_is_kept():
    """Without its window Mistral gives another loss, so that the equality above is a real one."""
    model = make("mistral")
    with torch.no_grad():
        narrow = one_by_one_loss(model)
        model.config.sliding_window = None
        wide = one_by_one_loss(model)
    assert abs(narrow - wide) > 1e-3 * wide


def one_by_one_loss(model) -> torch.Tensor:
    return sum(
        cross_entropy(model(ids[None], use_cache=False).logits[0, :-1], ids[1:], reduction="sum")
        for ids in sequences()
        if len(ids) > 1
    )


@pytest.mark.parametrize("family", ["llama", "mistral", "gemma3", "gpt2"])
def test_generation_is_unchanged(family):
    model = make(family)
    ids = torch.tensor([[0, 0, 5, 9, 11], [7, 8, 9, 10, 13]])
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    settings = {"attention_mask": mask, "max_new_tokens": 12, "do_sample": False}
    before = model.generate(ids, **settings)
    logits = model(ids, attention_mask=mask).logits[mask.bool()]
    assert adopt(model)
    assert model.generate(ids, **settings).tolist() == before.tolist()
    torch.testing.assert_close(model(ids, attention_mask=mask).logits[mask.bool()], logits, rtol=1e-5, atol=1e-5)


def test_gradient_checkpointing_inside_the_context():
    model = make("llama")
    adopt(model)
    loss, gradient = in_one_row(model)
    model.train()
    model.activation_checkpointing_enable({"use_reentrant": False})
    again, recomputed = in_one_row(model)
    assert again == loss
    for name, expected in gradient.items():
        torch.testing.assert_close(recomputed[name], expected, rtol=1e-5, atol=1e-7)


def test_the_saved_configuration_does_not_mention_us(tmp_path):
    model = make("llama")
    adopt(model)
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()


def test_a_layer_that_bypasses_the_function_is_noticed():
    model = make("llama")
    attention = model.model.layers[1].self_attn
    own = type(attention.config)(**attention.config.to_dict())
    own._attn_implementation = "sdpa"
    attention.config = own
    assert not self_test(model)
