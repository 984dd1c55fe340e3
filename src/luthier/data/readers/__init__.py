"""Where rows come from: a source's text in the recipe -> its rows, each with the place it was read from."""

from luthier.data.readers.dataset_info import entry_of
from luthier.data.readers.places import digests, read, start_rows
from luthier.data.readers.row import BadRow, Row

__all__ = ["BadRow", "Row", "digests", "entry_of", "read", "start_rows"]
