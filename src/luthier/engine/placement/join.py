"""How processes become a world: one store that all of them reach, and a process group for as long as they train."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from luthier.engine.device import pick_device
from luthier.engine.placement import PLACEMENTS
from luthier.engine.placement.world import World
from luthier.methods.contract import Trainable
from luthier.recipe.schema import Training

VIEWS = "FSDP2-wrapped module .* returned a view tensor"  # which no family changes in place: gradients are tested


def started() -> int:
    """How many processes a launcher such as torchrun has started together with this one; 0 where none has."""
    return int(os.environ["WORLD_SIZE"]) if {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= os.environ.keys() else 0


def own_rank() -> int:
    """This process's rank among those."""
    return int(os.environ["RANK"]) if started() else 0


@cache
def launchers_store() -> Store:
    """The store of the launcher that has started this process."""
    store, _, _ = next(iter(rendezvous("env://")))
    return store


@contextmanager
def joined(store: Store, name: str, rank: int, size: int, training: Training) -> Iterator[World]:
    """This process as one of a world of that name; the others must join too, and the block ends for all."""
    entry, options = PLACEMENTS[training.placement.name], training.placement.options
    device = pick_device(training.device)
    backend = "gloo"
    if device.type == "cuda":
        backend = "cpu:gloo,cuda:nccl"
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", VIEWS)
        dist.init_process_group(backend, store=PrefixStore(name, store), rank=rank, world_size=size)
        try:
            group = dist.new_group(backend="gloo")
            assert isinstance(group, dist.ProcessGroup)
            config = entry.config(**options)

            def place(trainable: Trainable) -> Trainable:
                return entry.place(trainable, config, device)

            yield World(rank, size, place, device, group, entry.cuts)
        finally:
            dist.destroy_process_group()
