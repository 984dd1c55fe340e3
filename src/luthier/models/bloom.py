"""BLOOM's attention while rows are packed: its own code adds ALiBi over the whole row and knows no boundaries."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn.functional import dropout
from transformers import PreTrainedModel
from transformers.models.bloom.modeling_bloom import BloomAttention

from luthier.models.attention import OWN, current, mix


class PackedBloomAttention(BloomAttention):
    """BLOOM's own attention, but for packed rows."""

    def forward(
        self, hidden_states: Tensor, residual: Tensor, alibi: Tensor, attention_mask: Any, *rest: Any, **options: Any
    ) -> Any:
        """hidden_states (1, T, D), alibi (H, 1, T or more) by position: a softmax sees its differences only."""
        if current() is None:
            return super().forward(hidden_states, residual, alibi, attention_mask, *rest, **options)
        fused = self.query_key_value(hidden_states)[0]
        query, key, value = fused.view(len(fused), self.num_heads, 3, self.head_dim).unbind(2)
        drop = self.attention_dropout.p if self.training else 0.0
        mixed = mix(query, key, value, "causal", self.inv_norm_factor, bias=alibi, dropout=drop)
        out = dropout(self.dense(mixed.flatten(1)[None]), self.hidden_dropout, self.training)
        return residual + out, None


def adopt_bloom(model: PreTrainedModel) -> None:
    """Give each attention of a BLOOM its packed form."""
    for module in model.modules():
        if type(module) is BloomAttention:
            module.__class__ = PackedBloomAttention
    model.config._attn_implementation = OWN
