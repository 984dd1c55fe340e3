"""Exports reloaded in a fresh process, which knows of Luthier nothing but its requests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from luthier.core.files import read_json
from luthier.deploy import reload
from luthier.deploy.reference import ANSWER_TOKENS, Reference

ENVIRONMENT = {
    "HF_HUB_OFFLINE": "1",  # the base is on this disk: the process that trained has read it
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TQDM_DISABLE": "1",
}


@dataclass(frozen=True)
class Wanted:
    """An export to be reloaded: its folder, the base to put it on (None: it is whole), and what to ask it."""

    folder: Path
    base: str | None
    auto: str
    encoder_decoder: bool
    device: str
    reference: Reference

    def to_json(self) -> dict[str, Any]:
        """The request."""
        asks = self.reference
        return {
            "folder": str(self.folder.resolve()),
            "base": self.base,
            "auto": self.auto,
            "encoder_decoder": self.encoder_decoder,
            "device": self.device,
            "rows": asks.rows,
            "prompts": asks.prompts,
            "texts": asks.texts,
            "asked": asks.asked,
            "most": ANSWER_TOKENS,
        }


@dataclass(frozen=True)
class Reply:
    """What the export said: `logits` (N, V) in fp32, and the facts under the names that `reload.examine` gives."""

    logits: Tensor
    facts: dict[str, Any]


def reloaded(wanted: Sequence[Wanted]) -> list[Reply | str]:
    """The reply of each export, or the reason why it could not be loaded and asked.

    One process takes them in turn. An export that ends it is left out, and another process takes the rest.
    """
    with TemporaryDirectory(prefix="luthier-") as place:
        folders = [Path(place) / f"{i:04}" for i in range(len(wanted))]
        for folder, one in zip(folders, wanted, strict=True):
            folder.mkdir()
            (folder / reload.REQUEST).write_text(json.dumps(one.to_json()), encoding="utf-8")
        broken: dict[Path, str] = {}
        while (failed := _process(Path(place))) is not None:
            at = next(f for f in folders if f not in broken and not (f / reload.REPLY).exists())
            broken[at] = failed
            (at / reload.REQUEST).unlink()
        return [broken[folder] if folder in broken else _read(folder) for folder in folders]


def _process(place: Path) -> str | None:
    """Run the script on the requests; the last line of what it said where it failed."""
    script = reload.__file__
    # -P: the script's own folder must not come before the packages that it imports
    ran = subprocess.run(
        [sys.executable, "-P", script, str(place)],
        env={**os.environ, **ENVIRONMENT},
        capture_output=True,
        text=True,
        errors="replace",
    )
    if ran.returncode == 0:
        return None
    said = ran.stderr.strip().splitlines()
    return said[-1] if said else f"the process ended with {ran.returncode}"


def _read(folder: Path) -> Reply:
    logits = load_file(folder / reload.LOGITS)["logits"]
    return Reply(logits, read_json(folder / reload.REPLY))
