"""Every random number generator of a process, kept with a checkpoint: Python's, numpy's, torch's and each GPU's.

Those of torch lie in a file of each process, the rest in the checkpoint's JSON.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from luthier.engine.job import Job

GENERATORS = "rng.safetensors"


def write(folder: Path, rank: int) -> None:
    """Write torch's generators of the process of this rank into the folder of a checkpoint."""
    found = {"cpu": torch.get_rng_state()}
    for index in range(torch.cuda.device_count()):
        found[f"cuda:{index}"] = torch.cuda.get_rng_state(index)
    save_file(found, folder / _file_of(rank))


def others() -> dict[str, Any]:
    """Python's and numpy's, as JSON can hold them."""
    kind, keys, *rest = np.random.get_state(legacy=True)
    return {"python_rng": random.getstate(), "numpy_rng": [kind, np.asarray(keys).tolist(), *rest]}


def restore(checkpoint: Path, body: dict[str, Any], job: Job) -> None:
    """Set those of this process, `others` as the `body` says; one that was not there draws from seed, share and step.

    Processes that read the same rows draw the same numbers.
    """
    world = job.computation.world
    version, keys, gauss = body["python_rng"]
    random.setstate((version, tuple(keys), gauss))
    np.random.set_state(tuple(body["numpy_rng"]))
    alike = range(world.size) if world.cuts else (world.rank,)  # those that must draw the same
    found = [load_file(path) for rank in alike if (path := checkpoint / _file_of(rank)).is_file()]
    if len(found) < len(alike) or any(not torch.equal(one["cpu"], found[0]["cpu"]) for one in found):
        fresh = np.random.default_rng([job.seed, world.share, body["state"]["step"]])
        torch.manual_seed(int(fresh.integers(2**62)))
        return
    for name, tensor in found[alike.index(world.rank)].items():
        if name == "cpu":
            torch.set_rng_state(tensor)
        elif int(name.split(":")[1]) < torch.cuda.device_count():
            torch.cuda.set_rng_state(tensor, name)


def _file_of(rank: int) -> str:
    return f"rng-{rank}.safetensors" if rank else GENERATORS
