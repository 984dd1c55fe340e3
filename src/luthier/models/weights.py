"""Weight files looked at without being read: names, shapes and whether each file is whole."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open

from luthier.core.errors import UserError
from luthier.core.files import read_json

INDEX = "model.safetensors.index.json"


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that make up the model: those of the index, else all there are."""
    if (folder / INDEX).is_file():
        return sorted({folder / name for name in read_json(folder / INDEX)["weight_map"].values()})
    return sorted(folder.glob("*.safetensors"))


def check_files(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shape of every weight by name; UserError where a file is missing or damaged."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in weight_files(folder):
        if not path.is_file():
            raise UserError(f"{path} is missing, though {INDEX} names it: download the model again")
        try:
            with safe_open(path, framework="numpy") as file:
                shapes |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise UserError(f"{path} is damaged ({error}): download or save the model again") from None
    return shapes
