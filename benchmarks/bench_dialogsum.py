"""stories260K on DialogSum, full fine-tuning and LoRA: loss per summary token on the test rows, rows accounted for.

Needs LUTHIER_DATA. `python -m benchmarks.bench_dialogsum [FOLDER]`: a finished run in FOLDER is read, not run again.
"""

from __future__ import annotations

import json
import math
import sys
import tempfile
from pathlib import Path

from benchmarks.record import measured, write

RECIPE = Path(__file__).parents[1] / "recipes" / "dialogsum-stories.yaml"


def main() -> None:
    """Run the recipe as a user would and write down what it says of itself."""
    with tempfile.TemporaryDirectory() as fresh:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(fresh) / "run"
        command = [sys.executable, "-m", "luthier", "run", str(RECIPE), "--json", "--out", str(folder)]
        printed, _, _ = measured(command)
    document = json.loads(printed)
    figures = {
        "nats_per_summary_token": {
            name: round(math.log(scores["perplexity"]["value"]), 4)
            for name, scores in document["metrics"].items()
            if "perplexity" in scores
        },
        "rows": document["stages"]["data"]["counts"],
        "stage_seconds": {name: stage["seconds"] for name, stage in document["stages"].items()},
        "plan": document["plan"],
        "metrics": document["metrics"],
    }
    write("dialogsum", "recipes/dialogsum-stories.yaml: stories260K (260,032 parameters) on DialogSum", figures)


if __name__ == "__main__":
    main()
