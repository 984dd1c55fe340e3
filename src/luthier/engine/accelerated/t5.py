"""T5's attention with projections that share an input as one function. Shapes: T tokens, D width, E of all heads."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from luthier.engine.accelerated.layers import projections
from luthier.engine.accelerated.linear import project


class FastT5Attention:
    """T5's packed attention."""

    def projected(self: Any, hidden_states: Tensor, seen: Tensor) -> tuple[Tensor, ...]:
        """hidden_states (1, T, D), seen (1, T', D) -> queries (1, T, E), keys and values (1, T', E)."""
        parts = projections(self, "q", "k", "v")
        if parts is None:
            return super().projected(hidden_states, seen)  # pyright: ignore[reportAttributeAccessIssue]
        if seen is hidden_states:
            return project(seen, parts)
        return *project(hidden_states, parts[:1]), *project(seen, parts[1:])
