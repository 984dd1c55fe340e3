"""torch's variable-length flash attention under transformers' interface, for the tuned peer on a GPU."""

from __future__ import annotations

import inspect
from typing import Any

import torch


def register_varlen() -> str:
    """Give transformers torch's own variable-length flash kernel, as the flash-attn package would; its name."""
    try:
        from torch.nn.attention.varlen import varlen_attn
    except ImportError:
        return "sdpa"
    from transformers import AttentionInterface, AttentionMaskInterface

    knows = inspect.signature(varlen_attn).parameters
    options: dict[str, Any] = {"window_size": (-1, 0)} if "window_size" in knows else {"is_causal": True}
    if "enable_gqa" in knows:
        options["enable_gqa"] = True  # before it had this argument, the kernel took fewer heads without a word

    def attend(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **given: Any) -> tuple[Any, None]:
        count, _, tokens, _ = query.shape
        query, key, value = (part.transpose(1, 2).flatten(0, 1) for part in (query, key, value))
        at, longest = given.get("cu_seq_lens_q"), given.get("max_length_q")
        if at is None or longest is None:  # one row a micro-batch
            at = torch.arange(0, (count + 1) * tokens, tokens, dtype=torch.int32, device=query.device)
            longest = tokens
        mixed: Any = varlen_attn(query, key, value, at, at, int(longest), int(longest), **options)
        return mixed.view(count, tokens, *mixed.shape[1:]), None

    AttentionInterface.register("varlen", attend)
    AttentionMaskInterface.register("varlen", lambda *args, **kwargs: None)
    return "varlen"
