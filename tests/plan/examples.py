"""Rows of token ids made on the spot."""

from __future__ import annotations

import numpy as np

from luthier.core.shards import Example


def example(read: int, said: int | None = None, row: int = 0) -> Example:
    """Ids 10, 11, ...; `said` labels of an encoder-decoder, else the last two ids as labels."""
    ids = np.arange(10, 10 + read)
    if said is not None:
        return Example(ids, np.arange(30, 30 + said), row)
    return Example(ids, np.where(np.arange(read) < read - 2, -100, ids), row)
