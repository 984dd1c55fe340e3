"""T5's attention while rows are packed: encoder, decoder and cross attention, each within its boundaries.

The relative bias depends on the distance alone, so that one table of the longest sequence serves all.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import PreTrainedModel
from transformers.models.t5.modeling_t5 import T5Attention

from luthier.models.attention import Kind, current, mix
from luthier.models.blocks import rounded


class PackedT5Attention(T5Attention):
    """T5's own attention, but for packed rows."""

    def forward(
        self,
        hidden_states: Tensor,
        mask: Any = None,
        key_value_states: Tensor | None = None,
        position_bias: Tensor | None = None,
        *rest: Any,
        **options: Any,
    ) -> Any:
        """hidden_states (1, T, D), key_value_states (1, T', D); packed, position_bias is (H, L, L) or None."""
        boundaries = current()
        if boundaries is None:
            return super().forward(hidden_states, mask, key_value_states, position_bias, *rest, **options)
        kind: Kind = "cross" if key_value_states is not None else "decoder" if self.is_decoder else "encoder"
        seen = hidden_states if key_value_states is None else key_value_states
        query, key, value = (
            states[0].view(states.shape[1], self.n_heads, -1) for states in self.projected(hidden_states, seen)
        )
        if position_bias is None and self.has_relative_attention_bias:
            longest = rounded(boundaries.longest(kind))  # as wide as the blocks: one table for all layers
            position_bias = self.compute_bias(longest, longest)[0].contiguous()
        drop = self.dropout if self.training else 0.0
        mixed = mix(query, key, value, kind, self.scaling, bias=position_bias, dropout=drop)
        return self.o(mixed.flatten(1)[None]), position_bias, None

    def projected(self, hidden_states: Tensor, seen: Tensor) -> tuple[Tensor, ...]:
        """hidden_states (1, T, D), seen (1, T', D) -> queries (1, T, E), keys and values (1, T', E) of all heads."""
        return self.q(hidden_states), self.k(seen), self.v(seen)


def adopt_t5(model: PreTrainedModel) -> None:
    """Give each attention of a T5 its packed form."""
    for module in model.modules():
        if type(module) is T5Attention:
            module.__class__ = PackedT5Attention
