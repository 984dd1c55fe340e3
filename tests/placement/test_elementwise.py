"""The optimisers that are allowed with shared-out parameters make the step that they make with whole ones."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from luthier.engine.optimizers import OPTIMIZERS
from luthier.engine.optimizers.contract import Weight
from luthier.engine.placement.world import whole
from luthier.engine.step import set_learning_rate


@pytest.fixture(scope="module")
def mesh():
    """A mesh of one device, on which parameters are of the kind that they are on several."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def stepped(name, parameters, gradients):
    rule = OPTIMIZERS[name]
    weights = [Weight(f"layer.{place}", parameter) for place, parameter in enumerate(parameters)]
    optimizer = rule.build(weights, rule.config(), 0)
    for _ in range(3):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
        set_learning_rate(optimizer, 0.1)
        optimizer.step()
    return [whole(parameter.detach()) for parameter in parameters]


@pytest.mark.parametrize("name", [name for name, entry in OPTIMIZERS.items() if entry.elementwise])
def test_the_step_is_the_same(mesh, name):
    generator = torch.Generator().manual_seed(0)
    shapes = [(5, 3), (4,)]
    values, gradients = ([torch.randn(shape, generator=generator) for shape in shapes] for _ in range(2))

    def placed(tensors):
        return [distribute_tensor(tensor.clone(), mesh, [Shard(0)]) for tensor in tensors]

    plain = stepped(name, [nn.Parameter(value.clone()) for value in values], gradients)
    shared = stepped(name, [nn.Parameter(value) for value in placed(values)], placed(gradients))
    for ours, theirs, before in zip(plain, shared, values, strict=True):
        assert not torch.equal(ours, before)
        torch.testing.assert_close(theirs, ours, rtol=1e-6, atol=0)
