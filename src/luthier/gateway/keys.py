"""API keys: random, shown once, stored as hashes.

They belong to the person who serves, not to a run: `keys.json` in `LUTHIER_STATE`, else `$XDG_STATE_HOME/luthier`,
else `~/.local/state/luthier`. A key is 256 random bits, so a plain SHA-256 keeps it as safe as a slow hash would:
there is no dictionary to try.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from luthier.core.errors import UserError, did_you_mean
from luthier.core.files import disk_errors, read_json, write_json

PREFIX = "lt-"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SHOWN = 7  # characters of a key by which its owner recognises it


def key_file() -> Path:
    """Where the hashes lie."""
    state = os.environ.get("LUTHIER_STATE")
    if state:
        return Path(state) / "keys.json"
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "luthier" / "keys.json"


def create(name: str) -> str:
    """Make a key and return it: the only time that it can be read."""
    if not NAME.fullmatch(name):
        raise UserError(f"'{name[:80]}' is no name for a key: write letters, digits, dots and dashes, at most 64")
    key = PREFIX + secrets.token_urlsafe(32)
    with _changing() as keys:
        if any(entry["name"] == name for entry in keys):
            raise UserError(f"there is a key called {name}: choose another name, or revoke it with --revoke {name}")
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        keys.append({"name": name, "begins": key[:SHOWN], "sha256": _hash(key), "created": created})
    return key


def revoke(name: str) -> None:
    """Forget a key; a running server refuses it from the next request on."""
    with _changing() as keys:
        found = [entry for entry in keys if entry["name"] == name]
        if not found:
            raise UserError(f"no key is called {name}: {did_you_mean(name, (entry['name'] for entry in keys))}")
        keys.remove(found[0])


def entries() -> list[dict[str, Any]]:
    """Every key's `name`, `begins`, `sha256` and `created`."""
    path = key_file()
    if not path.is_file():
        return []
    try:
        keys = read_json(path)["keys"]
        assert all(isinstance(entry["name"] + entry["sha256"], str) for entry in keys)
    except (ValueError, KeyError, TypeError, AssertionError):
        raise UserError(f"{path} is no list of keys: delete it and make new ones with `luthier keys --new`") from None
    return keys


class KeyRing:
    """The keys as a running server knows them: read again whenever the file has changed."""

    def __init__(self) -> None:
        self._seen: tuple[int, int] | None = None
        self._names: dict[str, str] = {}

    def name_of(self, key: str) -> str | None:
        """Whose key this is; None for an unknown one."""
        self._refresh()
        return self._names.get(_hash(key))

    def _refresh(self) -> None:
        try:
            found = key_file().stat()
        except FileNotFoundError:
            self._seen, self._names = None, {}
            return
        if self._seen != (found.st_mtime_ns, found.st_ino):
            self._names = {entry["sha256"]: entry["name"] for entry in entries()}
            self._seen = found.st_mtime_ns, found.st_ino


@contextmanager
def _changing() -> Iterator[list[dict[str, Any]]]:
    """The list of keys, to be changed in place; one process at a time, readable by its owner alone."""
    path = key_file()
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with (path.parent / ".keys.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            keys = entries()
            yield keys
            write_json(path, {"keys": keys})
            path.chmod(0o600)


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()
