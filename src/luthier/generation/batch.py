"""A batch of texts that are being continued: rows join, all advance by a token, rows leave.

Decoder-only models get their prompts padded on the left, with the positions and the mask that each would have alone;
encoder-decoders get the encoder's input padded on the right. The model's own generation settings are not consulted,
so that none of them leaks in. Shapes: B rows, T tokens, V vocabulary, D width.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import EncoderDecoderCache, PreTrainedModel

from luthier.core.errors import UserError
from luthier.generation.cache import Columns, keeps_columns
from luthier.models.attention import NAME


class Batch(ABC):
    """Rows of one model in the course of generation; make one with `batch_of`."""

    def __init__(self, model: PreTrainedModel, pad: int) -> None:
        self.model, self.pad = model, pad
        self.own: Columns | None = None

    @property
    def rows(self) -> int:
        """How many rows are being continued."""
        return self.own.rows if self.own else 0

    @abstractmethod
    def join(self, prompts: Sequence[Sequence[int]], room: int) -> Tensor:
        """Read prompts, as new rows behind the others; logits (new rows, V) of their first tokens.

        `room` is for how many tokens more there should be space at once.
        """

    @abstractmethod
    def advance(self, tokens: Tensor) -> Tensor:
        """Logits (B, V) after one more token (B,) of every row."""

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows only, in this order."""
        assert self.own is not None
        self.own.keep(rows)
        if not rows:
            self.own = None


def batch_of(model: PreTrainedModel, pad: int) -> Batch:
    """An empty batch for a model; UserError for one that remembers more of a text than keys and values."""
    if not keeps_columns(model.config):
        raise UserError(
            f"a {model.config.model_type} keeps a state beside keys and values, which Luthier cannot generate with: "
            "export the model and generate with transformers"
        )
    return (EncoderDecoder if model.config.is_encoder_decoder else DecoderOnly)(model, pad)


class DecoderOnly(Batch):
    """The prompt and its continuation are one text."""

    def __init__(self, model: PreTrainedModel, pad: int) -> None:
        super().__init__(model, pad)
        accepted = inspect.signature(model.forward).parameters
        self.given_positions = "position_ids" in accepted  # others read them off the mask
        self.last_only = {"logits_to_keep": 1} if "logits_to_keep" in accepted else {}
        # a processor's attention takes four times as long in bf16 as in fp32 where there is a single query
        wide = model.device.type == "cpu" and model.dtype.itemsize < 4 and model.config._attn_implementation == NAME
        self.kept_in = torch.float32 if wide else None

    def join(self, prompts: Sequence[Sequence[int]], room: int) -> Tensor:
        """See `Batch.join`."""
        ids, mask = padded(prompts, self.pad, self.model.device, left=True)
        new = Columns(len(ids), ids.shape[1] + room, ids.device, self.kept_in)
        logits = self._forward(ids, mask, (mask.cumsum(dim=1) - 1).clamp(min=0), new)
        new.begin(mask, [ids.shape[1] - len(prompt) for prompt in prompts])
        if self.own is None:
            self.own = new
        else:
            self.own.absorb(new)
        return logits

    def advance(self, tokens: Tensor) -> Tensor:
        """See `Batch.advance`."""
        own = self.own
        assert own is not None
        mask = own.prepare()
        positions = torch.tensor(own.lengths(), device=tokens.device)[:, None]
        logits = self._forward(tokens[:, None], mask if own.padded else None, positions, own)
        own.advance()
        return logits

    def _forward(self, ids: Tensor, mask: Tensor | None, positions: Tensor, cache: Columns) -> Tensor:
        placed = {"position_ids": positions} if self.given_positions else {}
        output = self.model(
            input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, **placed, **self.last_only
        )
        return output.logits[:, -1]


class EncoderDecoder(Batch):
    """The encoder reads the prompt; the decoder's text begins with its start token."""

    def __init__(self, model: PreTrainedModel, pad: int) -> None:
        super().__init__(model, pad)
        self.cross: Columns | None = None
        self.encoded = torch.empty(0)

    def join(self, prompts: Sequence[Sequence[int]], room: int) -> Tensor:
        """See `Batch.join`."""
        ids, mask = padded(prompts, self.pad, self.model.device, left=False)
        encoded = self.model.get_encoder()(input_ids=ids, attention_mask=mask).last_hidden_state
        own, cross = Columns(len(ids), 1 + room, ids.device), Columns(len(ids), ids.shape[1], ids.device)
        start = ids.new_full((len(ids), 1), self.model.config.decoder_start_token_id)
        logits = self._forward(start, None, encoded, mask, EncoderDecoderCache(own, cross))
        own.begin(torch.ones_like(start), [0] * len(ids))
        cross.begin(mask, [0] * len(ids))
        if self.own is None or self.cross is None:
            self.own, self.cross, self.encoded = own, cross, encoded
        else:
            self.own.absorb(own)
            self.cross.absorb(cross)
            width = max(self.encoded.shape[1], encoded.shape[1])
            parts = (F.pad(part, (0, 0, width - part.shape[1], 0)) for part in (self.encoded, encoded))
            self.encoded = torch.cat(list(parts))
        return logits

    def advance(self, tokens: Tensor) -> Tensor:
        """See `Batch.advance`."""
        own, cross = self.own, self.cross
        assert own is not None and cross is not None
        mask = own.prepare()
        cache = EncoderDecoderCache(own, cross)
        logits = self._forward(tokens[:, None], mask if own.padded else None, self.encoded, cross.mask, cache)
        own.advance()
        return logits

    def keep(self, rows: Sequence[int]) -> None:
        """See `Batch.keep`."""
        assert self.cross is not None
        super().keep(rows)
        self.cross.keep(rows)
        self.encoded = self.encoded[list(rows), self.encoded.shape[1] - self.cross.mask.shape[1] :]
        if not rows:
            self.cross = None

    def _forward(
        self, ids: Tensor, own: Tensor | None, encoded: Tensor, mask: Tensor, cache: EncoderDecoderCache
    ) -> Tensor:
        output = self.model(
            encoder_outputs=(encoded,),
            attention_mask=mask,
            decoder_input_ids=ids,
            decoder_attention_mask=own,
            past_key_values=cache,
            use_cache=True,
        )
        return output.logits[:, -1]


def without(count: int, gone: Collection[int]) -> list[int]:
    """The rows that stay, of `count`: the last ones take the places of those gone, so that few are moved."""
    left = count - len(gone)
    movers = iter([row for row in range(left, count) if row not in gone])
    return [next(movers) if row in gone else row for row in range(left)]


def padded(rows: Sequence[Sequence[int]], pad: int, device: torch.device, left: bool) -> tuple[Tensor, Tensor]:
    """Token ids and mask (both B, T)."""
    width = max(map(len, rows))
    ids, mask = torch.full((len(rows), width), pad), torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        where = slice(width - len(row), width) if left else slice(len(row))
        ids[i, where], mask[i, where] = torch.tensor(row), 1
    return ids.to(device), mask.to(device)
