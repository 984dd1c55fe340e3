"""From logits to the next token of every row: greedy, or drawn as the row's own request says.

Each row has its own random generator, and its draw depends on its own logits alone, so that what else is in the batch
cannot change an answer. Shapes: B rows, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from luthier.generation.request import Sampling

CANDIDATES = 256  # most probable tokens among which the nucleus usually lies
GREEDY = 1e-4  # a temperature below this leaves one token, and may leave the range of numbers


class Chooser:
    """Draws the tokens of one answer."""

    def __init__(self, sampling: Sampling, said: Sequence[int]) -> None:
        """`said` are the tokens whose repetition counts from the start."""
        self.sampling, self._said = sampling, said
        self.generator = torch.Generator()
        if sampling.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(sampling.seed)
        self._seen: Tensor | None = None  # (V,) what counts as a repetition

    @property
    def plain(self) -> bool:
        """Whether the most probable token is taken, whatever came before."""
        return self.sampling.repetition_penalty == 1.0 and self.sampling.temperature < GREEDY

    def choose(self, logits: Tensor) -> int:
        """The next token, from its logits (V,)."""
        logits = logits.float()
        seen = self._repeated(logits)
        if seen is not None:
            logits = penalised(logits, seen, self.sampling.repetition_penalty)
        if self.sampling.temperature < GREEDY:
            token = int(logits.argmax())
        else:
            sampling = self.sampling
            chances = distribution(logits, sampling.temperature, sampling.top_k, sampling.top_p)
            mass = chances.double().cumsum(0)
            point = torch.rand(1, generator=self.generator, dtype=torch.double).to(mass.device) * mass[-1]
            # the first token whose share of the line reaches beyond the point: never one without a share
            token = min(int(torch.searchsorted(mass, point, right=True)), int(chances.nonzero()[-1]))
        if seen is not None:
            seen[token] = True
        return token

    def _repeated(self, logits: Tensor) -> Tensor | None:
        if self._seen is None and self.sampling.repetition_penalty != 1.0:
            seen = torch.zeros(len(logits), dtype=torch.bool, device=logits.device)
            seen[[token for token in self._said if token < len(logits)]] = True
            self._seen = seen
        return self._seen


def choose(logits: Tensor, choosers: Sequence[Chooser]) -> list[int]:
    """The next token of every row, from logits (B, V)."""
    tokens = logits.argmax(dim=-1).tolist()
    for row, chooser in enumerate(choosers):
        if not chooser.plain:
            tokens[row] = chooser.choose(logits[row])
    return tokens


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Logits (V,) with those of `seen` tokens (V,) divided by the penalty, or multiplied where negative.

    Keskar et al. 2019, equation 2, with transformers' care for the sign.
    """
    return torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)


def distribution(logits: Tensor, temperature: float, top_k: int | None, top_p: float) -> Tensor:
    """Probabilities (V,), zero outside the `top_k` most probable tokens and outside the nucleus.

    The nucleus (Holtzman et al. 2020) are the fewest tokens, the most probable first, that together reach `top_p`.
    """
    logits = logits / temperature
    if top_k is not None and top_k < len(logits):
        logits = logits.masked_fill(logits < logits.topk(top_k).values[-1], -torch.inf)
    chances = logits.softmax(0)
    return chances if top_p == 1.0 else _nucleus(chances, top_p)


def _nucleus(chances: Tensor, top_p: float) -> Tensor:
    best = chances.topk(min(CANDIDATES, len(chances)))
    if best.values.sum() < top_p:
        best = chances.sort(descending=True, stable=True)
    before = best.values.cumsum(0) - best.values  # what the more probable ones have together
    inside = best.indices[before < top_p]
    kept = torch.zeros_like(chances)
    kept[inside] = chances[inside]
    return kept / kept.sum()
