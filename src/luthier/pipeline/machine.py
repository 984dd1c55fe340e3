"""What this machine has for fine-tuning, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from luthier.core.artefacts import PACKAGES, versions
from luthier.pipeline.folder import workspace

LITTLE_MEMORY = 3 * 2**30
LITTLE_DISK = 2 * 2**30


def examine() -> dict[str, Any]:
    """The machine's figures, and a finding (what, status ok | warning | error, detail) on each."""
    import torch

    figures = {
        "python": platform.python_version(),
        "cores": os.cpu_count() or 1,
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "available_bytes": psutil.virtual_memory().available,
        "disk_bytes": shutil.disk_usage(_existing(workspace())).free,
        "bf16": _bf16(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": versions(),
    }
    return {**figures, "findings": [*_machine(figures), *_packages(figures["versions"])]}


def _machine(figures: dict[str, Any]) -> list[dict[str, str]]:
    memory, disk = figures["available_bytes"], figures["disk_bytes"]
    supported = sys.version_info >= (3, 11)
    return [
        _finding("python", supported, figures["python"], "Luthier needs Python 3.11 or newer", "error"),
        _finding("cores", True, f"{figures['cores']}, torch uses {figures['threads']}"),
        _finding("memory", memory > LITTLE_MEMORY, f"{memory / 2**30:.1f} GiB free", "quickstart takes up to 3 GiB"),
        _finding("disk", disk > LITTLE_DISK, f"{disk / 2**30:.1f} GiB free", "checkpoints take space"),
        _finding("bf16", True, "in hardware" if figures["bf16"] else "not in hardware: fp32 is faster here"),
        _finding("gpu", True, figures["gpu"] or "none: small models train well on the processor"),
    ]


def _packages(found: dict[str, str]) -> list[dict[str, str]]:
    missing = [name for name in PACKAGES if name not in found]
    versions_found = ", ".join(f"{name} {version}" for name, version in found.items())
    needed = _finding("packages", not missing, versions_found, f"pip install {' '.join(missing)}", "error")
    try:
        extra = _finding("datasets", True, metadata.version("datasets"))
    except metadata.PackageNotFoundError:
        advice = 'pip install "luthier[datasets]" to read data sets of the hub'
        extra = _finding("datasets", False, "not installed", advice)
    return [needed, extra]


def _finding(what: str, good: bool, detail: str, advice: str = "", otherwise: str = "warning") -> dict[str, str]:
    return {"what": what, "status": "ok" if good else otherwise, "detail": detail if good else f"{detail}: {advice}"}


def _existing(path: Path) -> Path:
    """The path or the nearest folder above it that exists."""
    path = path.resolve()
    return path if path.exists() else _existing(path.parent)


def _bf16() -> bool:
    """Whether bf16 arithmetic is done in hardware: by the GPU, or the processor's AVX512-BF16, AMX or ARM units."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.ops.mkldnn._is_mkldnn_bf16_supported()
