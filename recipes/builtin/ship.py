"""Put the model of a finished pretraining run into the package, in bf16, with its model card.

Usage: python recipes/builtin/ship.py runs/builtin-t5-XXXX
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig

from luthier.core.files import read_json, write_json, write_text
from luthier.core.shards import Shard
from luthier.data.builtin import VERSION, rows
from luthier.engine.job import build, held_out
from luthier.engine.score import score
from luthier.recipe.load import load

HELD_OUT_ROWS = 400

CARD = """---
license: apache-2.0
language: [en, fr]
library_name: transformers
tags: [luthier, {name}, synthetic]
---
# builtin:{name}

{family}, width {width}, {layers}, {parameters:,} parameters, vocabulary {vocabulary:,})
that Luthier pretrained from random weights by its own `train`, objective `text` ({objective}),
on text written by its own seeded generator, version {version}: two-person dialogues and their
summaries, short stories, sums and word problems, general knowledge and history, word games, everyday situations and
manners, a little English-French. It holds no text by anybody else. The dialogue families of
`builtin:dialogues-test` occur in no training text.

It is a base: it {does} and has been taught no task. It is made for tests, demonstrations and teaching;
its knowledge is that of the generator's word lists.

| | |
|---|---|
| training | {documents:,} documents, {tokens:,} tokens with labels, {steps:,} steps |
| time | {minutes:.0f} minutes on {cores} |
| held-out loss on {rows} fresh documents | {loss:.3f} nats per {hidden}token, {bits:.3f} bits per {hidden}byte |
| a model that knows nothing (uniform) | {uniform:.3f} nats per token |
| floor: the generator's own choices | {floor:.3f} bits per byte over all text |

{orientation}

Made by `recipes/builtin/{name}.yaml`.
"""
FAMILIES = {
    "t5": "A T5 (gated GELU",
    "llama": "A Llama (rotary positions, grouped-query attention, a chat template in plain words",
    "bloom": "A BLOOM (ALiBi",
}
SPANS = {
    "does": "fills in hidden spans",
    "hidden": "hidden ",
    "orientation": """\
The floor is the information of the generator's random choices per byte of text. Span corruption sees both sides of a
hidden span, and so could lie below it where a choice shows elsewhere in the document; the two stand side by side as
an orientation, not as a ratio.""",
}
NEXT_TOKEN = {
    "does": "goes on with a text",
    "hidden": "",
    "orientation": """\
The floor is the information of the generator's random choices per byte of text: over many documents no model lies
below it.""",
}


def main(run: Path) -> None:
    """Convert, measure on held-out documents, write the card."""
    recipe = load(run / "recipe.yaml")
    name = recipe.model.base.removeprefix("blank:")
    folder = Path(__file__).parents[2] / "src" / "luthier" / "models" / "builtin" / name
    trained = run / "4-train" / "full"
    weights = load_file(trained / "model" / "model.safetensors")
    save_file({k: v.to(torch.bfloat16) for k, v in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", {**config, "dtype": "bfloat16"})
    shipped = recipe.model.model_copy(update={"base": f"builtin:{name}"})
    job = build(recipe.seed, shipped, recipe.data, recipe.train.variant("full"), run / "1-data")
    shard = Shard(run / "1-data" / "test")
    examples = held_out(job, shard)[:HELD_OUT_ROWS]
    measured = score(job.computation.trainable, examples, job.layout)
    skipped = {*job.base.tokenizer.all_special_ids, *job.vocabulary.sentinels}
    said = [job.base.tokenizer.decode([t for t in e.labels if t not in skipped]) for e in examples]
    generated = list(rows("corpus-heldout", recipe.seed, HELD_OUT_ROWS))
    result = read_json(trained / "result.json")
    threads = result["chosen"]["threads"]
    read, options = AutoConfig.from_pretrained(folder), job.computation.config
    spans, depth = read.is_encoder_decoder, read.num_hidden_layers
    facts = {
        **(SPANS if spans else NEXT_TOKEN),
        "name": name,
        "family": FAMILIES[name],
        "objective": f"span corruption, {options.density:.0%} in spans of {options.span:g}"
        if spans
        else "next token",
        "width": read.hidden_size,
        "layers": f"{depth} + {depth} layers" if spans else f"{depth} layers",
        "parameters": result["total_parameters"],
        "vocabulary": config["vocab_size"],
        "version": VERSION,
        "documents": read_json(run / "1-data" / "card.json")["splits"]["train"]["rows"],
        "tokens": result["tokens"],
        "steps": result["steps"],
        "minutes": result["seconds"] / 60,
        "cores": "one core" if threads == 1 else f"{threads} cores",
        "loss": measured.mean,
        "bits": measured.nll.sum() / math.log(2) / sum(len(text.encode()) for text in said),
        "rows": len(examples),
        "uniform": math.log(config["vocab_size"]),
        "floor": sum(row["bits"] for row in generated) / sum(len(row["text"].encode()) for row in generated),
    }
    write_text(folder / "README.md", CARD.format(**facts))
    print(json.dumps(facts, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
