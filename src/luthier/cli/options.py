"""The arguments and options that verbs share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RecipeFile = Annotated[Path, typer.Argument(help="The recipe, a YAML file.", show_default=False)]
RecipeOrRun = Annotated[str, typer.Argument(help="A recipe, or an earlier run (its folder or id).")]
RunName = Annotated[str, typer.Argument(help="A run: its folder or its id.")]
Overrides = Annotated[list[str] | None, typer.Argument(help="Keys to change: section.key=value ...")]
Out = Annotated[Path | None, typer.Option(help="The run's folder; default: runs/<name>-<4 hex>.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout and nothing else.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an unexpected error.")]
