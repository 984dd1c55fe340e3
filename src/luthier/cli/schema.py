"""`luthier schema`: what a recipe may say."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from luthier.cli.options import Debug, Json
from luthier.cli.verb import Work, carry_out


def schema(
    keys: Annotated[bool, typer.Option("--keys", help="A table of all keys instead.")] = False,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Print the recipe's JSON Schema (for editors), or a table of its keys."""

    def do(work: Work) -> dict[str, Any]:
        if not keys:
            from luthier.recipe.schema import Recipe

            return Recipe.model_json_schema()
        from dataclasses import asdict

        from luthier.recipe.keys import keys as all_keys

        return {"keys": [asdict(key) for key in all_keys()]}

    def show(document: dict[str, Any]) -> None:
        import json as text

        from luthier.recipe.keys import table

        print(table() if keys else text.dumps(document, indent=2), end="" if keys else "\n")

    carry_out(do, show, json, debug)
