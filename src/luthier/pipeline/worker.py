"""A process that trains beside rank 0: it waits to be told what, takes part, and says nothing.

`python -m luthier.pipeline.worker`, in an environment of ranks such as torchrun makes.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from itertools import count
from typing import TYPE_CHECKING

from luthier.core.errors import DONE, USER, Interrupted, UserError
from luthier.core.events import LOGGER

if TYPE_CHECKING:
    from torch.distributed.distributed_c10d import Store

    from luthier.train.together import Task

FOREVER = timedelta(days=365)  # rank 0 may read its data for as long as that takes


def main() -> int:
    """Take part in one task after another until there are no more; returns the exit code."""
    from luthier.engine.placement.join import launchers_store, own_rank, started
    from luthier.train.together import END, PARENT, Task, said

    LOGGER.addHandler(logging.NullHandler())
    LOGGER.propagate = False
    if PARENT in os.environ:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    store, rank, size = launchers_store(), own_rank(), started()
    for number in count(1):
        store.wait([f"work/{number}"], FOREVER)
        text = store.get(f"work/{number}").decode()
        if text == END:
            return DONE
        try:
            _take_part(Task.from_json(text), store, number, rank, size)
        except Interrupted:
            continue  # rank 0 has heard it too, and says what is next
        except UserError as error:
            store.set(said(number, rank), str(error))
            return USER
    raise AssertionError("the count is without end")


def attended(work: Callable[[], int]) -> int:
    """Under a launcher: rank 0 does the work and then lets the others go; these take part where it asks them to."""
    from luthier.engine.placement.join import own_rank
    from luthier.train.together import dismiss

    if own_rank():
        return main()
    try:
        return work()
    finally:
        dismiss()


def _take_part(task: Task, store: Store, number: int, rank: int, size: int) -> None:
    from luthier.engine.placement.join import joined
    from luthier.pipeline.stages import stage_called
    from luthier.train.stage import take_part
    from luthier.train.together import ready

    given = stage_called("train").arguments()
    store.set(ready(number, rank), "")
    with joined(store, f"world/{number}", rank, size, task.section.training) as world:
        take_part(task.section, task.inputs, task.out, given["evaluate"], world)


def _end_with_parent() -> None:
    """Leave when the process that started this one is gone, whatever this one is waiting for."""
    sys.stdin.read()
    os._exit(USER)


if __name__ == "__main__":
    sys.exit(main())
