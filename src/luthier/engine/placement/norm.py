"""The norm of a gradient that lies partly in pieces: some parameters are shared out, others whole in each process."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grad_norm_, clip_grads_with_norm_, get_total_norm

from luthier.engine.placement.world import whole


def clip(parameters: Collection[nn.Parameter], most: float) -> float:
    """Scale the gradients, in place, so that the norm of all together is at most `most`; the norm before.

    All processes must call. Torch's own functions take parameters of one kind at a time.
    """
    pieces = [parameter for parameter in parameters if isinstance(parameter, DTensor)]
    rest = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    if not pieces or not rest:
        return whole(clip_grad_norm_(parameters, most)).item()
    norms = [whole(get_total_norm([p.grad for p in kind if p.grad is not None])) for kind in (pieces, rest)]
    norm = torch.linalg.vector_norm(torch.stack(norms))
    for kind in (pieces, rest):
        clip_grads_with_norm_(kind, most, norm)
    return norm.item()
