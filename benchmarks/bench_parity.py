"""Every export of finished runs against what was trained: `python -m benchmarks.bench_parity [RUN ...]`.

RUN is by default the newest finished run of each recipe. Each variant is exported as adapter, merged in fp32 and
merged in bf16, where it can be; every export is reloaded in a fresh process and compared on the run's own test rows.
The exports stay in the run folders.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import luthier
from benchmarks.record import write
from luthier.deploy.offers import lacking
from luthier.pipeline.index import entries

ASKED = ("adapter", "merged", "{name: merged, precision: bf16}")
KEPT = ("rows", "positions", "largest_logit_difference", "logit_scale", "kl", "greedy_agreement", "answers", "bounds")


def main() -> None:
    """Export each run in every way that one of its variants allows, and write down how near each export lies."""
    newest = {entry.name: entry.folder for entry in reversed(entries()) if entry.status == "done"}
    runs = {Path(name).name: parity(name) for name in sys.argv[1:] or newest.values()}
    write("parity", "exports against trained models", {"runs": runs})


def parity(name: str) -> dict[str, Any]:
    """The figures of one run by variant and export."""
    found: dict[str, Any] = {}
    for asked in ASKED:
        run = luthier.open_run(name)
        kind = asked.strip("{}").removeprefix("name: ").split(",")[0]
        if all(lacking(run.recipe, variant, kind) for variant in run.recipe.train.names):
            continue
        for export, body in run.export(asked).document["exports"].items():
            if body["status"] == "done" and export.endswith(f"/{kind}"):
                label = f"{export} bf16" if "bf16" in asked else export
                found[label] = {key: body["parity"][key] for key in KEPT}
    return found


if __name__ == "__main__":
    main()
