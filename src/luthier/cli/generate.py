"""`luthier generate`: a file of prompts answered."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from luthier.cli.options import Debug, Json, RunName
from luthier.cli.sampling import MaxNewTokens, Model, Seed, Temperature, TopK, TopP, opened, sampling_of
from luthier.cli.verb import Work, carry_out


def generate(
    run: RunName,
    file: Annotated[Path, typer.Argument(help="Rows with `prompt` or `messages` (.jsonl), or a prompt a line.")],
    out: Annotated[Path | None, typer.Option(help="Where the answers go, one JSON a line; default: stdout.")] = None,
    model: Model = None,
    max_new_tokens: MaxNewTokens = 256,
    temperature: Temperature = 0.0,
    top_k: TopK = None,
    top_p: TopP = 1.0,
    seed: Seed = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Answer every row of a file with a trained model; each answer with its model, tokens and why it ended."""
    stdout = sys.stdout

    def do(work: Work) -> dict[str, Any]:
        from luthier.core.events import Stopwatch
        from luthier.core.files import json_text, write_jsonl
        from luthier.generation.engine import Engine
        from luthier.pipeline.answers import answer, read_questions

        sampling = sampling_of(max_new_tokens, temperature, top_k, top_p, seed)
        served, name = opened(run, model)
        adapter = served.find(name)
        questions = read_questions(file, adapter.prompts, lambda ids: served.room(adapter, ids))
        watch = Stopwatch()
        document: dict[str, Any] = {"model": name, "rows": len(questions)}
        with Engine(served) as engine:
            answers = answer(engine, name, questions, sampling)
            if out is not None:
                write_jsonl(out, answers)
                document["out"] = str(out)
            elif json:
                document["answers"] = list(answers)
            else:
                for row in answers:
                    print(json_text(row), file=stdout, flush=True)
        return {**document, "seconds": round(watch.seconds, 3)}

    carry_out(do, _show, json, debug)


def _show(document: dict[str, Any]) -> None:
    if "out" in document:
        print(f"{document['rows']:,} answers of {document['model']} in {document['out']}")
