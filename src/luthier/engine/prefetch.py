"""The next step's batches, made by a thread while this step trains."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from luthier.objectives.contract import Batch

LOOKED_AT = 4  # steps that are timed before a thread is thought of
WORTH = 0.02  # share of the training's time that making batches must take for a thread to be worth it

Make = Callable[[int, int], list[Batch]]  # step, micro-batch tokens -> its micro-batches


class Prefetched:
    """Batches by step and micro-batch size, the same as `make` gives; a thread makes those of the next step.

    What was made for another step or size than is asked for (after an out-of-memory halving) is thrown away, and an
    error of the making is raised when its step is taken. `waited` are the seconds spent in `take`.
    """

    def __init__(self, make: Make, steps: int, pool: ThreadPoolExecutor, worth: float) -> None:
        self._make, self._steps, self._pool, self._worth = make, steps, pool, worth
        self._next: tuple[tuple[int, int], Future[list[Batch]]] | None = None
        self._begun, self._taken, self._making = time.monotonic(), 0, 0.0
        self.waited = 0.0

    def take(self, step: int, micro_tokens: int) -> list[Batch]:
        """The micro-batches of a step."""
        start = time.monotonic()
        wanted, ahead, self._next = (step, micro_tokens), self._next, None
        batches = ahead[1].result() if ahead is not None and ahead[0] == wanted else self._timed(*wanted)
        now = time.monotonic()
        self.waited += now - start
        self._taken += 1
        if step + 1 < self._steps and self._taken >= LOOKED_AT and self._making > self._worth * (now - self._begun):
            following = (step + 1, micro_tokens)
            self._next = following, self._pool.submit(self._timed, *following)
        return batches

    def _timed(self, step: int, micro_tokens: int) -> list[Batch]:
        start = time.monotonic()
        try:
            return self._make(step, micro_tokens)
        finally:
            self._making += time.monotonic() - start


@contextmanager
def prefetched(make: Make, steps: int, worth: float = WORTH) -> Iterator[Prefetched]:
    """Batches made beforehand where that takes `worth` of the time or more; the thread ends with the block."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as pool:
        yield Prefetched(make, steps, pool, worth)
