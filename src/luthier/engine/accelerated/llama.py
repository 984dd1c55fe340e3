"""Attention and the last layer of Llama-like models (Llama, Qwen 2 and 3, Mistral, Gemma), mixed into their classes.

What they hand over to their family's own code, beside what `layers` does: generation with a cache, and rows that are
not packed. Shapes: T tokens, D width, H heads (K for keys and values), N labelled positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from luthier.engine.accelerated.layers import projections
from luthier.engine.accelerated.linear import Projection, project
from luthier.engine.accelerated.rotary import rotate
from luthier.models.attention import current, mix


class FastAttention:
    """Rotary attention."""

    luthier_linear = ("q_proj", "k_proj", "v_proj", "o_proj")
    luthier_norms = ("q_norm", "k_norm")  # of queries and keys, in families that have them

    def forward(
        self: Any,
        hidden_states: Tensor,
        position_embeddings: Any = None,
        attention_mask: Any = None,
        past_key_values: Any = None,
        luthier_rows: Tensor | None = None,
        **others: Any,
    ) -> Any:
        """hidden_states (1, T, D), cos and sin (1, T, R) -> (1, T, D), or (1, N, D) for the queries of some rows."""
        parts = self._linear()
        if parts is None or past_key_values is not None or current() is None or len(hidden_states) != 1:
            assert luthier_rows is None
            own: Any = super()
            return own.forward(hidden_states, position_embeddings, attention_mask, past_key_values, **others)
        cos, sin = at = tuple(part[0] for part in position_embeddings)
        rows = hidden_states[0]
        if luthier_rows is None:
            query, key, value = (self._heads(states) for states in project(rows, parts[:3]))
        else:
            key, value = (self._heads(states) for states in project(rows, parts[1:3]))
            query = self._heads(project(rows.index_select(0, luthier_rows), parts[:1])[0])
            at = tuple(part.index_select(0, luthier_rows) for part in at)
        if hasattr(self, self.luthier_norms[0]):
            norms = (getattr(self, name) for name in self.luthier_norms)
            query, key = (norm(states).to(value.dtype) for norm, states in zip(norms, (query, key), strict=True))
        query, key = self.turned(query, at, key, (cos, sin))
        mixed = mix(
            query,
            key,
            value,
            "causal" if luthier_rows is None else "labelled",
            self.scaling,
            window=self.sliding_window if hasattr(self, "sliding_window") else _window(self.config),
            dropout=self.attention_dropout if self.training else 0.0,
        )
        return project(mixed.flatten(1)[None], parts[3:])[0], None

    def turned(self, query: Tensor, at: Sequence[Tensor], key: Tensor, there: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Queries (T or N, H, D) and keys (T, K, D), each turned by the angles of its positions."""
        return rotate(query, *at), rotate(key, *there)

    def _linear(self: Any) -> list[Projection] | None:
        """The projections to queries, keys and values, and that of the output; None where one is no plain one."""
        return projections(self, *self.luthier_linear)

    def _heads(self: Any, states: Tensor) -> Tensor:
        return states.view(len(states), -1, self.head_dim)


def _window(config: Any) -> int | None:
    """The window of a family that has one for all layers."""
    return getattr(config, "sliding_window", None)


class FastLastLayer:
    """The last layer: what no labelled position needs of it is not computed.

    Keys and values are needed everywhere, queries and all that follows at the labelled positions only.
    """

    def forward(self: Any, hidden_states: Tensor, *rest: Any, **options: Any) -> Any:
        """hidden_states (1, T, D) -> (1, N, D) where the boundaries say which N positions are labelled."""
        boundaries = current()
        where = None if boundaries is None else boundaries.where
        usable = options.get("past_key_values") is None and not rest and len(hidden_states) == 1
        if boundaries is None or where is None or not usable or self.self_attn._linear() is None:
            return super().forward(hidden_states, *rest, **options)  # pyright: ignore[reportAttributeAccessIssue]
        boundaries.taken = True
        return self._labelled(hidden_states, where, options)

    def _labelled(self: Any, hidden_states: Tensor, where: Tensor, options: dict[str, Any]) -> Tensor:
        mixed, _ = self.self_attn(self.input_layernorm(hidden_states), luthier_rows=where, **options)
        hidden_states = hidden_states.index_select(1, where) + mixed
        return hidden_states + self.mlp(self.post_attention_layernorm(hidden_states))
