"""Files written whole or not at all, and their checksums. JSON is strict: a number that is none is written null."""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from luthier.core.errors import DiskError


def sha256(path: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def finite(value: Any) -> Any:
    """The JSON value with null for every float that is infinite or not a number, which JSON has no word for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(entry) for key, entry in value.items()}
    return [finite(entry) for entry in value] if isinstance(value, list | tuple) else value


def json_text(value: Any, **layout: Any) -> str:
    """The value as strict JSON; ValueError for a float that is not finite, which `finite` takes out."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, **layout)


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json_text(value, sort_keys=True).encode()).hexdigest()


def sync(path: Path) -> None:
    """Push a file or folder entry down to the disk, so that a rename after it cannot outlive its content."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full disk and missing permission into a sentence that says where and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskError(
                f"no space left on the disk of {path}: free some and run `luthier resume`, or choose another "
                "folder with --out; what was finished is kept"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise DiskError(
                f"{error.filename or path} may not be written ({error.strerror}): give yourself permission "
                "(chmod u+w), or choose another folder with --out"
            ) from error
        raise


def write_bytes(path: Path, body: bytes) -> None:
    """Write a file atomically: whole under its name, or not there at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with disk_errors(path):
        temporary.write_bytes(body)
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)


def write_text(path: Path, body: str) -> None:
    """Write text atomically in UTF-8."""
    write_bytes(path, body.encode())


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value atomically, readable, with a newline at the end."""
    write_text(path, json_text(value, indent=2) + "\n")


def read_json(path: Path) -> Any:
    """The JSON value of a file."""
    return json.loads(path.read_text(encoding="utf-8"))


def write_jsonl(path: Path, values: Iterator[Any] | list[Any]) -> int:
    """Write one JSON value a line, atomically and without holding them all; returns how many."""
    temporary = path.with_name(f".{path.name}.tmp")
    count = 0
    with disk_errors(path):
        with temporary.open("w", encoding="utf-8") as file:
            for value in values:
                file.write(json_text(value) + "\n")
                count += 1
        sync(temporary)
        os.replace(temporary, path)
    return count


def read_jsonl(path: Path) -> list[Any]:
    """All the JSON values of a file with one a line."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def unsealed(path: Path) -> Path:
    """The temporary name under which `new_folder` lets a folder be filled."""
    return path.with_name(f".{path.name}.tmp")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Fill a folder under a temporary name; it takes its own name, synced, only when the block ends well."""
    temporary = unsealed(path)
    shutil.rmtree(temporary, ignore_errors=True)
    with disk_errors(path):
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.rglob("*"):
            sync(file)
        sync(temporary)
        shutil.rmtree(path, ignore_errors=True)
        os.replace(temporary, path)
        sync(path.parent)
