"""Tensors on disk by name: one safetensors file, or of a world of several processes a folder with a file of each.

The folder is written and read by torch's distributed checkpoint in its safetensors layout, so that any number of
processes can read what any other number has written, each only the parts it holds. Neither kind holds a pickle.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.distributed as dist
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from luthier.engine.placement.world import World, like, whole

SUFFIX = ".safetensors"


def write(path: Path, tensors: Mapping[str, Tensor], world: World) -> None:
    """Write the tensors to `path`, a name that ends in `.safetensors`, or into the folder of that name without it.

    Of several processes each writes its parts; all must call.
    """
    if world.size == 1:
        save_file({name: whole(tensor.detach()).contiguous() for name, tensor in tensors.items()}, path)
        return
    writer = HuggingFaceStorageWriter(str(_folder(path)), save_distributed=True)
    save(dict(tensors), storage_writer=writer, process_group=world.group)


def sizes(path: Path) -> dict[str, torch.Size]:
    """The whole shape of every tensor that was written to `path`."""
    if path.is_file():
        with safe_open(path, framework="pt") as file:
            return {name: torch.Size(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    return {name: entry.size for name, entry in _entries(path).items()}


def read(path: Path, models: Callable[[str], Tensor], world: World) -> dict[str, Tensor]:
    """What was written to `path`, by as many processes as may be: each tensor in the parts and on the device of
    `models(name)` where that has its shape, else whole on that device."""
    if path.is_file():
        return {name: like(tensor, models(name)) for name, tensor in load_file(path).items()}
    found = {}
    for name, entry in _entries(path).items():
        model = models(name).detach()
        if model.shape == entry.size:
            found[name] = torch.empty_like(model, dtype=entry.properties.dtype)
        else:
            found[name] = torch.empty(entry.size, dtype=entry.properties.dtype, device=model.device)
    reader = HuggingFaceStorageReader(str(_folder(path)))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process reads alone, as it should
        load(found, storage_reader=reader, process_group=world.group, no_dist=not dist.is_initialized())
    return found


def files(folder: Path) -> list[str]:
    """The names, below the folder, of all files of tensors in it."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob(f"*{SUFFIX}"))


def _entries(path: Path) -> Mapping[str, TensorStorageMetadata]:
    return HuggingFaceStorageReader(str(_folder(path))).read_metadata().state_dict_metadata  # pyright: ignore


def _folder(path: Path) -> Path:
    return path.with_suffix("")
