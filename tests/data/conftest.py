"""Small bases whose tokenizer has one token a character, so that lengths can be counted by hand."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from luthier.core.artefacts import Artefacts, Counts
from luthier.core.files import read_json, read_jsonl
from luthier.core.shards import Shard
from luthier.data.stage import run
from luthier.recipe.schema import Data, Model
from luthier.recipe.sections import DataSection

CHARACTERS = [chr(c) for c in (9, 10, *range(32, 127))] + list("éüŁ")
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]
CHAT = (
    "{{ bos_token }}{% for m in messages %}"
    "{% if m.role == 'user' and not loop.first and loop.previtem.role == 'user' %}"
    "{{ raise_exception('roles must alternate') }}{% endif %}"
    "[{{ m.role }}]{{ m.content }}{{ eos_token if m.role == 'assistant' else '' }}{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)


TOOLS = CHAT.replace(
    "{{ bos_token }}", "{{ bos_token }}{% for tool in tools or [] %}[tool]{{ tool | tojson }}{% endfor %}"
).replace(
    "{{ m.content }}", "{{ m.content }}{% for call in m.tool_calls %}[call]{{ call.function | tojson }}{% endfor %}"
)


def make_base(folder: Path, encoder_decoder: bool = False, chat: bool = False, tools: bool = False) -> Path:
    """A folder that resolves to a base: config, tokenizer, and weights that nothing in this stage reads."""
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, *CHARACTERS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    single = "$A </s>" if encoder_decoder else "<s> $A"
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 1), ("</s>", 2)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    fast.chat_template = TOOLS if tools else CHAT if chat else None
    fast.save_pretrained(folder)
    config: dict[str, Any] = {"model_type": "t5" if encoder_decoder else "llama", "max_position_embeddings": 4096}
    (folder / "config.json").write_text(json.dumps(config | {"is_encoder_decoder": encoder_decoder}))
    save_file({"nothing": np.zeros(1, dtype=np.float32)}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("base"))


class Stage:
    """The stage run once, and what lies in its folder."""

    def __init__(self, base: Path, out: Path, context: int, seed: int, **data: Any) -> None:
        data = {"split": {"validation": 0, "test": 0}, "max_rejected": 1.0} | data
        section = DataSection(seed=seed, model=Model(base=str(base), context=context), data=Data.model_validate(data))
        self.out, self.base = out, base
        self.counts: Counts = run(section, Artefacts(out, {}), out)

    @property
    def card(self) -> dict[str, Any]:
        return read_json(self.out / "card.json")

    @property
    def rejected(self) -> list[dict[str, Any]]:
        return read_jsonl(self.out / "rejected.jsonl")

    @property
    def removed(self) -> list[dict[str, Any]]:
        return read_jsonl(self.out / "removed.jsonl")

    def shard(self, split: str = "train") -> Shard:
        return Shard(self.out / split)

    def rows(self, split: str = "train") -> list[dict[str, Any]]:
        return list(self.shard(split).rows)


@pytest.fixture
def stage(base: Path, tmp_path: Path) -> Callable[..., Stage]:
    """Runs the stage on a decoder-only base, unless another is given."""
    made = iter(range(1000))

    def start(context: int = 4096, seed: int = 7, on: Path = base, **data: Any) -> Stage:
        return Stage(on, tmp_path / f"out-{next(made)}", context, seed, **data)

    return start


def write_jsonl(path: Path, rows: list[Any]) -> Path:
    """One value a line; text is written as it is."""
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r, ensure_ascii=False)) + "\n" for r in rows))
    return path


def pairs(count: int, **more: Any) -> list[dict[str, Any]]:
    """Rows of different prompts and answers."""
    words = ["amber", "birch", "cedar", "dune", "ember", "fjord", "grove", "haze", "islet", "jetty"]
    return [
        {
            "prompt": f"{words[i % 10]} {words[i // 10 % 10]} {i * 7919}?",
            "completion": f"{i} {words[i * 3 % 10]}",
            **more,
        }
        for i in range(count)
    ]


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The messages of all events of the test."""
    messages: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    listener = Listener()
    logging.getLogger("luthier").addHandler(listener)
    yield messages
    logging.getLogger("luthier").removeHandler(listener)
