"""`luthier keys`: who may use a server that others can reach."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from luthier.cli.options import Debug, Json
from luthier.cli.verb import Work, carry_out


def keys(
    new: Annotated[str | None, typer.Option(help="Make a key of this name; it is shown once.")] = None,
    revoke: Annotated[str | None, typer.Option(help="Forget the key of this name.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """List the API keys of `luthier serve`, make one, or revoke one."""

    def do(work: Work) -> dict[str, Any]:
        from luthier.core.errors import UserError
        from luthier.gateway import keys as stored

        if new is not None and revoke is not None:
            raise UserError("give --new or --revoke, not both")
        if new is not None:
            return {"name": new, "key": stored.create(new), "file": str(stored.key_file())}
        if revoke is not None:
            stored.revoke(revoke)
        shown = ("name", "begins", "created")
        listed = [{name: entry[name] for name in shown} for entry in stored.entries()]
        return {"keys": listed, "file": str(stored.key_file())}

    carry_out(do, _show, json, debug)


def _show(document: dict[str, Any]) -> None:
    if "key" in document:
        print(document["key"])
        said = f"  the key of {document['name']}, shown this once: {document['file']} has its hash alone"
        print(said, file=sys.stderr)  # so that a script gets the key and nothing else
        return
    for entry in document["keys"]:
        print(f"  {entry['name']:<20} {entry['begins']}...   {entry['created']}")
    if not document["keys"]:
        print("  no keys: `luthier keys --new NAME` makes one")
