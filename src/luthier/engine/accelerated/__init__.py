"""Blocks that compute what a model's own do in fewer passes and with less kept for the backward pass.

`accelerate` changes a model's blocks in place where a self-test finds loss and gradients the same.
"""

from luthier.engine.accelerated.accelerate import Acceleration, accelerate

__all__ = ["Acceleration", "accelerate"]
