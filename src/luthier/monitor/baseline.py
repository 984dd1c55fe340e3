"""What the evaluation leads one to expect of the traffic: how long prompts and answers of the test rows are.

Prompts are counted in tokens, as the server counts them; answers in characters, which need no tokenizer.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from luthier.chat.template import template_for
from luthier.core.artefacts import read_manifest
from luthier.core.files import disk_errors, read_json, read_jsonl, write_json
from luthier.core.records import Text
from luthier.core.shards import Shard
from luthier.models.resolve import resolve
from luthier.models.tokenizers import load_tokenizer
from luthier.monitor.traffic import FOLDER
from luthier.recipe.load import load

NAME = "baseline.json"


def read_baseline(run: Path) -> dict[str, Any] | None:
    """The baseline that is kept of the run's evaluation; None where there is none."""
    path = run / FOLDER / NAME
    return read_json(path) if path.is_file() else None


def keep_baseline(run: Path) -> None:
    """Make the baseline of the run's evaluation and keep it, unless that is done already or there is none.

    It is kept at the end of a run, so that what becomes of the rows or the base later changes nothing in it:
    `{"evaluation": digest of stage 5, "rows": n, "prompt_tokens": [...], "answer_characters": {variant: [...]}}`.
    """
    evaluated = read_manifest(run / "5-evaluate")
    kept = read_baseline(run)
    if evaluated is None or (kept is not None and kept["evaluation"] == evaluated.digest):
        return
    prompts = _prompt_tokens(run)
    answers = {
        path.stem: [len(row["answer"].strip()) for row in read_jsonl(path)]
        for path in sorted((run / "5-evaluate" / "answers").glob("*.jsonl"))
    }
    body = {
        "evaluation": evaluated.digest,
        "rows": len(prompts),
        "prompt_tokens": prompts,
        "answer_characters": answers,
    }
    with disk_errors(run):
        (run / FOLDER).mkdir(exist_ok=True)
        write_json(run / FOLDER / NAME, body)


def _prompt_tokens(run: Path) -> list[int]:
    """The length of every test row's prompt; running text has none."""
    recipe = load(run / "recipe.yaml")
    resolved = resolve(recipe.model)
    template = template_for(load_tokenizer(recipe.model), recipe.data, resolved.encoder_decoder)
    records = Shard(run / "1-data" / "test").records
    return [
        min(len(template.prompt_ids(record)), resolved.context) for record in records if not isinstance(record, Text)
    ]
