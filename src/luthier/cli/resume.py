"""`luthier resume`: go on where a run stopped."""

from __future__ import annotations

from luthier.cli.flow_verbs import flow
from luthier.cli.options import Debug, Json, RunName


def resume(run: RunName, json: Json = False, debug: Debug = False) -> None:
    """Go on with a run from its last checkpoint; nothing that is finished is made again."""
    flow(run, None, None, lambda opened: opened.all(), json, debug)
