"""What runs on each machine of a Ray cluster: it writes the recipe and keeps one process going."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path

from luthier.core.errors import UserError
from luthier.core.paths import expand

MARKS = ("error: ", "no: ")  # how a sentence of `luthier.cli.verb.fail` begins


class Node:
    """One machine of the cluster; made into an actor by `luthier.launch.ray`, which imports Ray."""

    def __init__(self, folder: str) -> None:
        """Work in the folder that Luthier was called in, where this machine has it too."""
        if os.path.isdir(folder):
            os.chdir(folder)
        self._process: subprocess.Popen[str] | None = None

    def address(self) -> tuple[str, int]:
        """This machine's address as others reach it, and a port that is free."""
        host = import_module("ray").util.get_node_ip_address()
        with socket.socket() as probe:
            probe.bind(("", 0))
            return host, probe.getsockname()[1]

    def missing(self, paths: Sequence[str]) -> list[str]:
        """Those of the paths, as a recipe writes them, that do not exist here."""
        return [path for path in paths if not _exists(path)]

    def run(self, recipe: str, arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
        """Call Python with these arguments, {recipe} being the recipe's file; its exit code and what it ended with.

        That is its last line, or the last one that Luthier's command line says an error with: torchrun adds its own.
        """
        with tempfile.TemporaryDirectory(prefix="luthier-") as folder:
            path = Path(folder) / "recipe.yaml"
            path.write_text(recipe, encoding="utf-8")
            command = [sys.executable, *(str(path) if word == "{recipe}" else word for word in arguments)]
            self._process = subprocess.Popen(
                command,
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
            last, error = "", ""
            assert self._process.stdout is not None
            for line in self._process.stdout:
                print(line, end="", flush=True)  # Ray carries it to whoever called
                last = line.strip() or last
                error = last if line.startswith(MARKS) else error
            return self._process.wait(), error or last

    def stop(self) -> None:
        """Ask the process to end: its workers write a checkpoint first."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)


def _exists(path: str) -> bool:
    """Whether the file is here; `dataset_info.json:name` is that file, and a variable that is not set is not here."""
    try:
        place = expand(path)
    except UserError:
        return False
    return Path(place).exists() or Path(place.partition(".json:")[0] + ".json").exists()
