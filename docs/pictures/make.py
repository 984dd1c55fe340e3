"""The pictures of the README, from a real run: `python docs/pictures/make.py [CHROMIUM]`.

`terminal.svg` is what `luthier quickstart` prints, `report.png` the first screen of the report that it leaves.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

HERE = Path(__file__).parent
COLUMNS = 108
QUIET = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
]


def terminal(command: list[str]) -> str:
    """What a command prints on a terminal of 108 columns, colours included."""
    main, other = pty.openpty()
    environment = os.environ | {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color"}
    process = subprocess.Popen(command, stdout=other, stderr=other, env=environment, close_fds=True)
    os.close(other)
    printed = b""
    while True:
        try:
            block = os.read(main, 65536)
        except OSError:  # the other end is closed: the command has ended
            break
        if not block:
            break
        printed += block
    assert process.wait() == 0, printed.decode()
    return printed.decode()


def settled(printed: str) -> str:
    """The lines as they stand at the end: what a progress bar drew over itself is gone."""
    lines: list[str] = []
    for line in printed.replace("\r\n", "\n").split("\n"):
        kept = re.split(r"\r|\x1b\[[0-9]*[AK]|\x1b\[2K|\x1b\[\?25[lh]", line)[-1]
        if kept.strip() or not line.strip():
            lines.append(kept)
    return "\n".join(lines)


def main(chromium: str = "chromium") -> None:
    """Run the quickstart, draw its terminal, photograph its report."""
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "quickstart"
        command = [sys.executable, "-m", "luthier", "quickstart", "--out", str(run)]
        text = settled(terminal(command)).replace(str(run), "runs/quickstart")
        console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
        console.print(Text.from_ansi("$ luthier quickstart\n" + text))
        console.save_svg(str(HERE / "terminal.svg"), title="luthier quickstart")
        photograph = [
            f"--screenshot={HERE / 'report.png'}",
            "--window-size=1180,1180",
            f"--user-data-dir={name}/profile",
        ]
        subprocess.run([chromium, *QUIET, *photograph, f"file://{run}/report.html"], check=True, capture_output=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
