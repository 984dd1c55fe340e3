"""A full disk shows itself in many ways (numpy, safetensors and torch each raise their own): one sentence for all."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from types import TracebackType

from luthier.core.errors import DiskError, Interrupted, Refusal, UserError

FULL_BYTES = 16 * 1024  # what is written fills the disk to the last pages before it fails


class DiskWatch:
    """What breaks inside the block while the disk is full is reported as the full disk that it is."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not isinstance(error, Exception) or isinstance(error, UserError | Refusal | Interrupted):
            return
        if os.strerror(errno.ENOSPC) in str(error) or shutil.disk_usage(self.folder).free < FULL_BYTES:
            raise DiskError(
                f"no space left on the disk of {self.folder}: free some and run `luthier resume {self.folder}`, or "
                "choose another folder with --out; what was finished is kept"
            ) from error
