"""Jobs of toy size, as the tests of training have them."""

from tests.train.conftest import furnished

__all__ = ["furnished"]
