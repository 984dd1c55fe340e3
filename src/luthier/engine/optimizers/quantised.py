"""AdamW through bitsandbytes (Dettmers et al. 2022): moments of 8 bits, or pages that leave a full GPU."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from luthier.core.errors import UserError
from luthier.engine.optimizers.adam import TWO_MOMENTS, AdamWConfig
from luthier.engine.optimizers.contract import FLOAT, OptimizerEntry, Weight, decayed

LIBRARY = "bitsandbytes"
SMALLEST = 4096  # numbers of a parameter from which its moments are of 8 bits
BLOCK = 256  # numbers of a moment that share a scale
PAGED = 100_000  # numbers from which a moment lies in pages
INSTEAD = "write adamw, which is the same where there is one memory, or adamw-8bit"
MAPS = {"qmap1": "dynamic", "qmap2": "udynamic"}  # the values that 8 bits stand for, the same for every parameter


def build_8bit(weights: Sequence[Weight], config: AdamWConfig, seed: int) -> torch.optim.Optimizer:
    """AdamW whose moments take a byte each, on a CPU or a CUDA GPU.

    Errors: UserError without bitsandbytes or on another device.
    """
    _check_device(weights, "adamw-8bit", ("cpu", "cuda"), "write adamw, or adafactor, which holds less still")
    return _build("AdamW8bit", weights, config)


def build_paged(weights: Sequence[Weight], config: AdamWConfig, seed: int) -> torch.optim.Optimizer:
    """AdamW whose moments move to main memory when a CUDA GPU is full.

    Errors: UserError without bitsandbytes or on another device.
    """
    _check_device(weights, "adamw-paged", ("cuda",), INSTEAD)
    return _build("PagedAdamW", weights, config)


def _check_device(weights: Sequence[Weight], name: str, devices: tuple[str, ...], advice: str) -> None:
    device = weights[0].parameter.device.type
    if device not in devices:
        raise UserError(f"train.optimizer: {name} runs on {' and '.join(devices)}, and this is {device}: {advice}")


def lacking() -> str | None:
    """How to get the library; None where it is installed."""
    if find_spec(LIBRARY) is not None:
        return None
    return f'moments of 8 bits or in pages need the library {LIBRARY}: pip install "luthier[{LIBRARY}]"'


def lacking_pages() -> str | None:
    """Why there are no pages here, or how to get the library; None where there are."""
    if not torch.cuda.is_available():
        return f"adamw-paged needs a CUDA GPU, whose memory it spares: {INSTEAD}"
    return lacking()


def _build(kind: str, weights: Sequence[Weight], config: AdamWConfig) -> torch.optim.Optimizer:
    if problem := lacking():
        raise UserError(f"train.optimizer: {problem}")
    logging.getLogger(LIBRARY).setLevel(logging.ERROR)  # it talks about kernels that optimisers do not use
    optim = import_module(f"{LIBRARY}.optim")
    return _kept(getattr(optim, kind))(
        decayed(weights, config.weight_decay),
        lr=0.0,
        betas=(config.beta1, config.beta2),
        eps=config.eps,
        min_8bit_size=SMALLEST,
    )


def _kept(base: Any) -> Any:
    """The library's class, its state between two steps such as a checkpoint keeps: tensors that nothing shares."""

    class Kept(base):
        def update_step(self, group: dict[str, Any], p: nn.Parameter, gindex: int, pindex: int) -> None:
            state = self.state[p]
            state["step"] = int(state["step"])
            if state["state1"].dtype == torch.uint8:
                state |= {key: self.name2qmap[name].to(p.device) for key, name in MAPS.items()}
            if self.is_paged:
                self._page(p, state)
            super().update_step(group, p, gindex, pindex)
            state["step"] = torch.tensor(state["step"])
            for key in MAPS:
                state.pop(key, None)

        def _page(self, p: nn.Parameter, state: dict[str, Any]) -> None:
            """Put the moments of a checkpoint, which come as plain tensors, back into pages."""
            for key in ("state1", "state2"):
                if p.numel() >= PAGED and not getattr(state[key], "is_paged", False):
                    pages = self.get_state_buffer(p, dtype=state[key].dtype)
                    state[key] = pages.copy_(state[key])

    return Kept


def _state_8bit(weights: Sequence[Weight], config: AdamWConfig) -> int:
    sizes = [weight.parameter.numel() for weight in weights]
    return sum(2 * n + 2 * FLOAT * -(-n // BLOCK) if n >= SMALLEST else 2 * FLOAT * n for n in sizes)


ADAMW_8BIT = OptimizerEntry(AdamWConfig, build_8bit, _state_8bit, lacking=lacking)
ADAMW_PAGED = OptimizerEntry(AdamWConfig, build_paged, TWO_MOMENTS, lacking=lacking_pages)
