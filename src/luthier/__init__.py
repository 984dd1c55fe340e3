"""Luthier: fine-tuning of language models in seven stages, each proved on the way."""

__version__ = "0.1.0"
