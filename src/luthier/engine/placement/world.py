"""The processes that train one model together, each with its rank, and the few things that they must agree on.

What is agreed on is small and lies in main memory: it goes through gloo, whatever moves weights and gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from luthier.methods.contract import Trainable

T = TypeVar("T")


def _as_it_is(trainable: Trainable) -> Trainable:
    return trainable


@dataclass(frozen=True)
class World:
    """Rank 0 `leads`: it alone writes journals and results. `place` puts a trainable onto the devices of all."""

    rank: int = 0
    size: int = 1
    place: Callable[[Trainable], Trainable] = _as_it_is
    device: torch.device | None = (
        None  # where this process computes, whatever holds the weights; None: where they lie
    )
    group: dist.ProcessGroup | None = None  # gloo; None where there is nobody to agree with
    cuts: bool = False  # whether each computes with a part of every layer, and all read the same rows

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    @property
    def shares(self) -> int:
        """Into how many shares the rows of a step are dealt."""
        return 1 if self.cuts else self.size

    @property
    def share(self) -> int:
        """Which of them this process reads, from 0."""
        return 0 if self.cuts else self.rank

    def total(self, values: Sequence[float]) -> list[float]:
        """The sums over all shares of the rows, one by one, in float64; the same bits everywhere."""
        each = self.size // self.shares  # processes that have counted the same rows
        return [value / each for value in self._reduced(values, dist.ReduceOp.SUM)]

    def most(self, values: Sequence[float]) -> list[float]:
        """The largest over all processes, one by one."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def any(self, *flags: bool) -> list[bool]:
        """Whether each flag is up in some process."""
        return [value > 0 for value in self.most([float(flag) for flag in flags])]

    def led(self, value: T) -> T:
        """What rank 0 holds."""
        if self.group is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self.group)
        return box[0]

    def wait(self) -> None:
        """Until all are here."""
        if self.group is not None:
            dist.barrier(group=self.group)

    def _reduced(self, values: Sequence[float], how: dist.ReduceOp.RedOpType) -> list[float]:
        if self.group is None:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(tensor, how, group=self.group)
        return tensor.tolist()


ALONE = World()


def whole(tensor: Tensor) -> Tensor:
    """The tensor that processes hold in parts; one that is whole already, as it is. All must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def like(tensor: Tensor, model: Tensor) -> Tensor:
    """The whole tensor, which every process has, on the device of `model` and in the same parts; at once."""
    tensor = tensor.to(model.device)
    if isinstance(model, DTensor) and tensor.shape == model.shape:
        return distribute_tensor(tensor, model.device_mesh, model.placements, src_data_rank=None)
    return tensor
