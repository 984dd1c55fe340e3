"""What is measured: the cells of the table, with what each must reach, and the ways in which the peers run."""

from __future__ import annotations

from dataclasses import dataclass, replace

RANK, ALPHA, CLIP, SEED, ROWS = 8, 16, 1.0, 7, 8


@dataclass(frozen=True)
class Model:
    """A model with random weights; a `t5` has as many layers on either side."""

    name: str
    family: str
    hidden: int
    layers: int
    heads: int
    head: int  # width of a head
    inner: int
    vocabulary: int
    context: int = 2048

    @property
    def encoder_decoder(self) -> bool:
        """Whether it reads and speaks apart."""
        return self.family == "t5"


LLAMA = Model("llama-32k", "llama", 512, 8, 8, 64, 1408, 32_000)
SMALLER = replace(LLAMA, name="llama-8k", vocabulary=8_000)
T5 = Model("t5-32k", "t5", 512, 8, 6, 64, 1024, 32_000)
TOY = Model("toy-llama", "llama", 64, 2, 4, 16, 160, 600)
TOY_T5 = Model("toy-t5", "t5", 64, 2, 4, 16, 160, 600)


@dataclass(frozen=True)
class Target:
    """What the ratios must reach: tokens per second over either peer, and the peer's memory over Luthier's."""

    as_run: float
    tuned: float
    memory: float


@dataclass(frozen=True)
class Cell:
    """A model trained in a precision by a method, at a learning rate."""

    name: str
    model: Model
    precision: str
    method: str
    rate: float
    target: Target | None = None
    mfu: float | None = None

    @property
    def full(self) -> bool:
        """Whether every weight trains."""
        return self.method == "full"


CELLS = (
    Cell("32k, fp32", LLAMA, "fp32", "lora", 1e-3, Target(4, 2.2, 3), 0.60),
    Cell("32k, bf16", LLAMA, "bf16", "lora", 1e-3, Target(5, 2.5, 3), 0.50),
    Cell("8k, fp32", SMALLER, "fp32", "lora", 1e-3, Target(2.8, 1.8, 2.5)),
    Cell("8k, bf16", SMALLER, "bf16", "lora", 1e-3, Target(3, 2.1, 2.5)),
    Cell("full, 32k, bf16", LLAMA, "bf16", "full", 1e-4, Target(3, 1.8, 2)),
    Cell("T5, fp32", T5, "fp32", "lora", 1e-3, Target(2, 1.3, 2)),
    Cell("T5, bf16", T5, "bf16", "lora", 1e-3, Target(2, 1.3, 2)),
)
TOYS = (
    Cell("toy, fp32", TOY, "fp32", "lora", 1e-3),
    Cell("toy T5, fp32", TOY_T5, "fp32", "lora", 1e-3),
)


@dataclass(frozen=True)
class Peer:
    """How a peer runs.

    `grouped`: batches of examples of like length, other ones in each step, the same in all. `apart`: a step in
    micro-batches of so many rows of like length. `rounds`: in how many it takes part, None: all.
    """

    name: str
    grouped: bool = False
    apart: int | None = None
    weights: str = "fp32"
    padding_free: bool = False
    checkpointing: bool = False
    medium: bool = False
    rounds: int | None = None

    @property
    def how(self) -> str:
        """The settings in words."""
        said = [
            "grouped by length" if self.grouped else "",
            f"micro-batches of {self.apart}" if self.apart else "",
            "bf16 weights" if self.weights == "bf16" else "",
            "padding-free" if self.padding_free else "",
            "activation checkpointing" if self.checkpointing else "",
            "matmul precision medium" if self.medium else "",
        ]
        return ", ".join(filter(None, said)) or "padded, in the given order"


AS_RUN = Peer("as run")


def candidates(cell: Cell) -> list[Peer]:
    """What a careful user might try; the fastest is the tuned peer."""
    if cell.target is None:
        return [Peer("tuned", apart=2)]
    pairs = Peer("tuned", apart=2, padding_free=not cell.model.encoder_decoder)
    ways = [Peer("tuned", grouped=True), pairs, Peer("tuned", apart=1)]
    return [replace(way, weights="bf16") for way in ways] if cell.precision == "bf16" else ways


def extras(cell: Cell, tuned: Peer) -> list[Peer]:
    """Rows beside the table: one more line of code, and the peer's own default."""
    rows = []
    if cell.target is None:
        return rows
    if cell.precision == "fp32":
        rows.append(replace(tuned, name="tuned, and medium", medium=True, rounds=2))
    if cell.model is LLAMA:
        rows.append(replace(AS_RUN, name="with checkpointing (TRL's default)", checkpointing=True, rounds=1))
    return rows
