"""Whether what a tracker needs is installed, and the settings that it is told."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from luthier.trackers import TRACKERS


def lacking(name: str) -> str | None:
    """What to install for this tracker; None where all of it is there."""
    entry = TRACKERS[name]
    packages = dict.fromkeys(module.split(".")[0] for module in entry.modules)
    missing = [package for package in packages if not _there(package)]
    if not missing:
        return None
    return f'{name} needs {entry.packages}, and {", ".join(missing)} is missing: pip install "luthier[{name}]"'


def _there(package: str) -> bool:
    """Whether it is installed; a folder of that name, such as wandb makes, has no origin."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


def import_all(name: str) -> None:
    """Import what the tracker will import, so that the memory it takes is there when a peak is measured."""
    for module in TRACKERS[name].modules:
        with suppress(ImportError):  # said when the recipe is checked
            import_module(module)


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings under dotted names; what is not set is left out."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        elif value is not None and value != []:
            yield f"{prefix}{name}", value
