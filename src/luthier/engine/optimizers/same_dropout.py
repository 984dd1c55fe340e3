"""Passes over one batch that must see the same dropout."""

from __future__ import annotations

from collections.abc import Callable

import torch


def replay(device: torch.device) -> Callable[[], None]:
    """A call that sets torch's generators, the CPU's and the device's, back to where they are now."""
    before = torch.get_rng_state()
    own = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    mps = torch.mps.get_rng_state() if device.type == "mps" else None

    def back() -> None:
        torch.set_rng_state(before)
        if own is not None:
            torch.cuda.set_rng_state(own, device)
        if mps is not None:
            torch.mps.set_rng_state(mps)

    return back
