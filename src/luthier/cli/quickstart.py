"""`luthier quickstart`: the shipped recipe, from data to report in minutes."""

from __future__ import annotations

from pathlib import Path

from luthier.cli.flow_verbs import flow
from luthier.cli.options import Debug, Json, Out, Overrides

RECIPE = Path(__file__).parents[1] / "recipe" / "shipped" / "quickstart.yaml"


def quickstart(overrides: Overrides = None, out: Out = None, json: Json = False, debug: Debug = False) -> None:
    """Fine-tune a small summariser that ships with Luthier, three ways, and compare them; minutes, no download."""
    flow(RECIPE, overrides, out, lambda opened: opened.all(), json, debug)
