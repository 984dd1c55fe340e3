"""The forward pass where nothing is labelled, and the device on which it runs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from luthier.core.shards import IGNORED, Example
from luthier.engine.batches import Layout, collate
from luthier.engine.forward import boundaries, forward
from luthier.engine.step import Computation, gradients
from luthier.methods.contract import Trainable
from luthier.models.packing import adopt
from luthier.objectives import OBJECTIVES
from tests.toy_models import VOCABULARY, toy_model


def row(*ids, trained=0, place=0):
    """A row whose last `trained` tokens carry labels."""
    labels = np.full(len(ids), IGNORED)
    labels[len(ids) - trained :] = ids[len(ids) - trained :]
    return Example(np.array(ids), labels, place)


@pytest.fixture
def computation():
    model = toy_model("llama")
    adopt(model)
    sft = OBJECTIVES["sft"]
    return Computation(
        Trainable(model, dict(model.named_parameters())), sft, sft.config(), "fp32", torch.device("cpu")
    )


@pytest.mark.parametrize("packed", [True, False])
def test_a_batch_without_labels_gives_no_logits(computation, packed):
    batch = collate([row(5), row(7, 8)], Layout(False, packed, 0))
    with boundaries(batch):
        assert forward(computation.trainable.model, batch).logits.shape == (0, VOCABULARY)


def test_such_a_micro_batch_adds_nothing_to_a_step(computation):
    """A text of one token predicts nothing; alone in its micro-batch it must not end the run."""
    layout = Layout(False, True, 0)
    alone = gradients(computation, [collate([row(5, 6, 7, trained=2)], layout)], clip=1e9)
    expected = {n: p.grad.clone() for n, p in computation.trainable.parameters.items() if p.grad is not None}
    computation.trainable.model.zero_grad()
    both = gradients(computation, [collate([row(5, 6, 7, trained=2)], layout), collate([row(9)], layout)], clip=1e9)
    assert both.loss == alone.loss and (alone.tokens, both.tokens) == (3, 4)
    for name, value in expected.items():
        assert torch.equal(computation.trainable.parameters[name].grad, value), name
