"""`luthier chat`: talk to a trained model."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from luthier.cli.options import Debug, Json, RunName
from luthier.cli.sampling import MaxNewTokens, Model, Seed, Temperature, TopK, TopP, opened, sampling_of
from luthier.cli.verb import Work, carry_out


def chat(
    run: RunName,
    base: Annotated[bool, typer.Option("--base", help="Show the untrained model's answers beside.")] = False,
    model: Model = None,
    max_new_tokens: MaxNewTokens = 256,
    temperature: Temperature = 0.0,
    top_k: TopK = None,
    top_p: TopP = 1.0,
    seed: Seed = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Talk to a trained model in the terminal; where stdin is no terminal, each of its lines is a turn.

    /reset forgets what was said, /exit leaves; Ctrl-C ends an answer early. A model that was trained on single
    prompts answers each line by itself.
    """
    stdout = sys.stdout

    def do(work: Work) -> dict[str, Any]:
        from luthier.cli.conversation import Page, talk
        from luthier.generation.engine import Engine
        from luthier.generation.talk import Talk

        sampling = sampling_of(max_new_tokens, temperature, top_k, top_p, seed)
        served, name = opened(run, model)
        with Engine(served) as engine:
            names = list(dict.fromkeys((served.name, name) if base else (name,)))
            talks = [Talk(engine, each, sampling) for each in names]
            return {"models": names, "turns": talk(talks, Page(None if json else stdout))}

    carry_out(do, lambda document: None, json, debug)
