"""Paths as a recipe writes them: `~` and environment variables are put in."""

from __future__ import annotations

import os
import re

from luthier.core.errors import UserError

_VARIABLE = re.compile(r"\$\{(\w+)\}|\$(\w+)")


def expand(written: str) -> str:
    """The path with `~`, `$NAME` and `${NAME}` put in; UserError for a variable that is not set."""

    def value(match: re.Match[str]) -> str:
        variable = match[1] or match[2]
        if variable not in os.environ:
            raise UserError(
                f"'{written}' needs the environment variable {variable}, which is not set: "
                f"export {variable}=/path/to/the/folder"
            )
        return os.environ[variable]

    return os.path.expanduser(_VARIABLE.sub(value, written))
