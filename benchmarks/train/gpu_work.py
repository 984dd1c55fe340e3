"""What both sides of the GPU benchmark train: Llamas with random weights, on random tokens of chosen lengths."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from benchmarks.train.flops import Decoder, decoder

RANK, ALPHA, RATE, CLIP = 8, 16, 1e-4, 1.0
LABELLED = 0.25  # share of each sequence, at its end, that is the answer
SPREAD = 0.7  # standard deviation of ln(length) of mixed lengths, about that of instruction data

SIZES: dict[str, dict[str, Any]] = {
    "1b": {"hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32, "intermediate_size": 8192},
    "8b": {"hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 14336},
    "tiny": {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 160},
}


@dataclass(frozen=True)
class Workload:
    """`count` sequences a step of `length` tokens, or of mixed lengths of at most `length`."""

    length: int
    mixed: bool
    count: int

    @property
    def name(self) -> str:
        """How tables call it."""
        return f"{'mixed, up to ' if self.mixed else ''}{self.length}"

    def steps(self, number: int, vocabulary: int) -> list[list[list[int]]]:
        """The token ids of every sequence of so many steps; the same every time."""
        draw = random.Random(self.length + self.mixed)
        return [
            [[draw.randrange(3, vocabulary) for _ in range(self._draw(draw))] for _ in range(self.count)]
            for _ in range(number)
        ]

    def _draw(self, draw: random.Random) -> int:
        if not self.mixed:
            return self.length
        return min(max(round(draw.lognormvariate(math.log(self.length / 4), SPREAD)), self.length // 32), self.length)


def labelled(length: int) -> int:
    """Tokens of the answer."""
    return max(round(LABELLED * length), 1)


def workloads(size: str) -> list[Workload]:
    """The four of a model: about 16,000 tokens a step, whatever their lengths."""
    short, long, tokens = (64, 128, 512) if size == "tiny" else (2048, 8192, 16384)
    mixed = 3  # so many times more sequences where lengths are mixed: their mean is a third of the longest
    return [
        Workload(short, False, tokens // short),
        Workload(short, True, mixed * tokens // short),
        Workload(long, True, mixed * tokens // long),
        Workload(long, False, tokens // long),
    ]


def config(size: str) -> Any:
    """The configuration of Llama 3 of that size."""
    from transformers import LlamaConfig

    tiny = size == "tiny"
    return LlamaConfig(
        **SIZES[size],
        num_key_value_heads=2 if tiny else 8,
        vocab_size=300 if tiny else 128256,
        max_position_embeddings=16384,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        tie_word_embeddings=size == "1b",
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )


def model(size: str, dtype: torch.dtype, device: torch.device, attention: str = "sdpa") -> Any:
    """A model with weights drawn on the device, the same for every side, rounded to the type that it is kept in."""
    from transformers import LlamaForCausalLM

    settings = config(size)
    settings._attn_implementation = attention
    torch.manual_seed(0)
    with torch.device(device):
        made = LlamaForCausalLM(settings)
    for parameter in made.parameters():  # not the buffers: the angles of rotary positions stay exact
        parameter.data = parameter.data.to(dtype)
    return made


def operations(size: str, steps: Sequence[Sequence[Sequence[int]]], full: bool) -> list[float]:
    """The least operations of each step."""
    made = config(size)
    width = made.hidden_size // made.num_attention_heads
    shape = Decoder(
        hidden=made.hidden_size,
        layers=made.num_hidden_layers,
        width=made.num_attention_heads * width,
        narrow=made.num_key_value_heads * width,
        inner=made.intermediate_size,
        vocabulary=made.vocab_size,
    )
    lengths = [[len(row) for row in step] for step in steps]
    return [decoder(shape, own, [labelled(n) for n in own], None if full else RANK) for own in lengths]


class Clock:
    """Seconds between the ends of steps, the device waited for; peak bytes since the first step."""

    def __init__(self, device: torch.device) -> None:
        self.device, self._last = device, 0.0
        self.seconds: list[float] = []
        self.losses: list[float] = []
        self.kernels: list[tuple[str, int, float]] = []  # name, calls, milliseconds

    def start(self) -> None:
        """The first step begins."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self._last = self._now()

    def step(self, loss: float | None = None) -> None:
        """A step has ended."""
        now = self._now()
        self.seconds.append(now - self._last)
        if loss is not None:
            self.losses.append(loss)
        self._last = now

    def peak(self) -> int:
        """The most bytes held since `start`."""
        return torch.cuda.max_memory_allocated() if self.device.type == "cuda" else 0

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


@contextmanager
def emptied() -> Iterator[None]:
    """The device's memory is empty before and after."""
    import gc

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    try:
        yield
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def matmul_peak(device: torch.device) -> float:
    """bf16 operations per second of a large product of random matrices."""
    size, calls = (8192, 20) if device.type == "cuda" else (256, 3)
    a, b = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    clock = Clock(device)
    for number in range(3 + calls):
        if number == 3:
            clock.start()
        torch.mm(a, b)
    clock.step()
    return 2.0 * size**3 * calls / clock.seconds[0]
