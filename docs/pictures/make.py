"""The pictures of the README, from real runs: `python docs/pictures/make.py [CHROMIUM [TUTOR_RUN]]`.

`terminal.svg` is what `luthier quickstart` prints, `report.png` the first screen of the report that it leaves,
`tutor.png` the table of who is good at what in the report of `recipes/tutor.yaml`.
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
RECIPES = HERE.parents[1] / "recipes"
LUTHIER = [sys.executable, "-m", "luthier"]
ONLY_TABLE = "header, footer, main > section:not(#strengths) { display: none } section { margin-top: 1.6rem }"
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


def photograph(chromium: str, page: Path, picture: Path, size: str) -> None:
    """The first screen of a page in a browser window of this size."""
    with tempfile.TemporaryDirectory() as profile:
        options = [f"--screenshot={picture}", f"--window-size={size}", f"--user-data-dir={profile}"]
        subprocess.run([chromium, *QUIET, *options, f"file://{page}"], check=True, capture_output=True)


def quickstart(chromium: str, run: Path) -> None:
    """Run the quickstart, draw its terminal, photograph its report."""
    text = settled(terminal([*LUTHIER, "quickstart", "--out", str(run)])).replace(str(run), "runs/quickstart")
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi("$ luthier quickstart\n" + text))
    console.save_svg(str(HERE / "terminal.svg"), title="luthier quickstart")
    photograph(chromium, run / "report.html", HERE / "report.png", "1180,1180")


def tutor(chromium: str, run: Path) -> None:
    """Of a tutor's report the table of who is good at what; the recipe is run where the folder holds no report."""
    if not (run / "report.html").is_file():
        terminal([*LUTHIER, "run", str(RECIPES / "tutor.yaml"), "--out", str(run)])
    page = run / "table.html"
    page.write_text((run / "report.html").read_text().replace("</head>", f"<style>{ONLY_TABLE}</style></head>"))
    photograph(chromium, page, HERE / "tutor.png", "1180,1240")
    page.unlink()


def main(chromium: str = "chromium", run: str = "") -> None:
    """All pictures; `run` is a finished run of the tutor, if there is one."""
    with tempfile.TemporaryDirectory() as name:
        quickstart(chromium, Path(name) / "quickstart")
        tutor(chromium, Path(run) if run else Path(name) / "tutor")


if __name__ == "__main__":
    main(*sys.argv[1:])
