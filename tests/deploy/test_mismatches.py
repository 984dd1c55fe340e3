"""Templates, stop tokens and weights changed behind the export's back: each is refused, by name.

All damaged folders are reloaded by one fresh process; one that cannot be loaded does not take the others along.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from luthier.core.files import read_json, write_json
from luthier.deploy.fresh import reloaded
from luthier.deploy.parity import Parity
from luthier.deploy.reference import take
from luthier.deploy.stage import judge, refusal, request
from luthier.deploy.trained import load_trained
from luthier.pipeline.stages import stage_called, works
from tests.chat.small import CHATML, LLAMA3, bytes_tokenizer

BOS, EOS, START, END = 256, 257, 258, 259  # of tests.chat.small's tokenizer: <s>, </s>, <|im_start|>, <|im_end|>
Damage = Callable[[Path], None]


def in_json(file: str, change: Callable[[dict[str, Any]], Any]) -> Damage:
    def damage(folder: Path) -> None:
        body = read_json(folder / file)
        change(body)
        write_json(folder / file, body)

    return damage


def tokens(change: Callable[[dict[str, Any]], Any]) -> Damage:
    return in_json("tokenizer.json", change)


def settings(**values: Any) -> Damage:
    return in_json("tokenizer_config.json", lambda body: body.update(values))


def generation(**values: Any) -> Damage:
    return in_json("generation_config.json", lambda body: body.update(values))


def template(text: str) -> Damage:
    return lambda folder: (folder / "chat_template.jinja").write_text(text)


def added(token: int, **values: Any) -> Damage:
    def change(body: dict[str, Any]) -> None:
        next(entry for entry in body["added_tokens"] if entry["id"] == token).update(values)

    return tokens(change)


def around(before: list[tuple[str, int]], after: list[tuple[str, int]]) -> Damage:
    """A post-processor that puts special tokens around every text."""
    pieces = [
        *({"SpecialToken": {"id": word, "type_id": 0}} for word, _ in before),
        {"Sequence": {"id": "A", "type_id": 0}},
        *({"SpecialToken": {"id": word, "type_id": 0}} for word, _ in after),
    ]
    known = {word: {"id": word, "ids": [id], "tokens": [word]} for word, id in [*before, *after]}
    processor = {"type": "TemplateProcessing", "single": pieces, "pair": pieces, "special_tokens": known}
    return tokens(lambda body: body.update(post_processor=processor))


def swap_added(body: dict[str, Any]) -> None:
    first, second = (next(e for e in body["added_tokens"] if e["id"] == id) for id in (START, END))
    first["content"], second["content"] = second["content"], first["content"]


def swap_letters(body: dict[str, Any]) -> None:
    vocabulary = body["model"]["vocab"]
    vocabulary["a"], vocabulary["e"] = vocabulary["e"], vocabulary["a"]


def drop_added(body: dict[str, Any]) -> None:
    body["added_tokens"] = [entry for entry in body["added_tokens"] if entry["id"] != END]


def other_tokenizer(folder: Path) -> None:
    """That of a model whose special tokens stand in another order."""
    tokenizer = bytes_tokenizer(CHATML)
    body = read_json(folder / "tokenizer.json")
    swap_added(body)
    tokenizer.save_pretrained(folder)
    write_json(folder / "tokenizer.json", body)


def weights(file: str, change: Callable[[dict[str, Any]], Any]) -> Damage:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / file)
        change(tensors)
        save_file(tensors, folder / file, metadata={"format": "pt"})

    return damage


def shifted(tensors: dict[str, Any]) -> None:
    tensors["lm_head.weight"][100] += 0.01


MERGED: dict[str, tuple[str, Damage]] = {
    # the chat template
    "a space more in the template": ("chat-template", template(CHATML.replace("\n", " \n", 1))),
    "no generation prompt": ("prompt-ids", template(CHATML.partition("{% if add")[0])),
    "the template lost": ("chat-template", lambda folder: (folder / "chat_template.jinja").unlink()),
    "the template of another run": ("template-fingerprint", template(LLAMA3)),
    "a system message that training never saw": ("prompt-ids", template("<|im_start|>system\nBe kind." + CHATML)),
    "a template that does not end turns": ("template-fingerprint", template(CHATML.replace("<|im_end|>", ""))),
    "a template that says BOS": ("prompt-ids", template("{{ bos_token }}" + CHATML)),
    # where answers end
    "other stop token": ("stop-tokens", generation(eos_token_id=[BOS])),
    "one stop token of two": ("stop-tokens", generation(eos_token_id=[EOS])),
    "one stop token too many": ("stop-tokens", generation(eos_token_id=[END, EOS, ord("1")])),
    "no stop token": (
        "stop-tokens",
        in_json("generation_config.json", lambda body: body.pop("eos_token_id")),
    ),
    "stop token not in the tokenizer": ("added-tokens", tokens(drop_added)),
    "stop token is a word like any other": ("added-tokens", added(END, special=False)),
    "stop token eats the space before it": ("text-ids", added(END, lstrip=True)),
    "stop token only between spaces": ("text-ids", added(END, single_word=True)),
    "added token ids moved": ("added-tokens", tokens(swap_added)),
    "the tokenizer's end token changed": ("eos-token", settings(eos_token="<|eot_id|>")),
    "padding is the stop token": ("pad-token", settings(pad_token="<|im_end|>")),
    "no answer below ten tokens": ("generation-settings", generation(min_new_tokens=10)),
    "the stop token suppressed": ("generation-settings", generation(suppress_tokens=[END])),
    "a repetition penalty": ("generation-settings", generation(repetition_penalty=1.3)),
    # the tokenizer
    "BOS before every text": ("post-processor", around([("<s>", BOS)], [])),
    "EOS after every text": ("text-ids", around([], [("</s>", EOS)])),
    "lower case": ("normalizer", tokens(lambda body: body.update(normalizer={"type": "Lowercase"}))),
    "compatibility forms": ("text-ids", tokens(lambda body: body.update(normalizer={"type": "NFKC"}))),
    "a space before every text": (
        "pre-tokenizer",
        tokens(lambda body: body["pre_tokenizer"].update(add_prefix_space=True)),
    ),
    "two letters swapped": ("vocabulary", tokens(swap_letters)),
    "the tokenizer of another model": ("added-tokens", other_tokenizer),
    "padding on the other side": ("padding-side", settings(padding_side="left")),
    "another decoder": ("decoder", tokens(lambda body: body.update(decoder=None))),
    # the model
    "one row of weights": ("logits", weights("model.safetensors", shifted)),
    "the base, nothing merged": (
        "greedy",
        lambda folder: shutil.copyfile("model/model.safetensors", folder / "model.safetensors"),
    ),
    "a broken tokenizer": ("load", lambda folder: (folder / "tokenizer.json").write_text('{"version": "1.0"}')),
}
ADAPTER: dict[str, tuple[str, Damage]] = {
    "another alpha": ("logits", in_json("adapter_config.json", lambda body: body.update(lora_alpha=12))),
    "a layer left out": (
        "logits",
        in_json("adapter_config.json", lambda body: body["target_modules"].remove("model.layers.0.mlp.up_proj")),
    ),
    "a space more in the template": ("chat-template", template(CHATML.replace("\n", " \n", 1))),
    "other stop token": ("stop-tokens", generation(eos_token_id=[BOS])),
}


@pytest.fixture(scope="module")
def verdicts(exported, trained, tmp_path_factory) -> dict[tuple[str, str], Parity]:
    """The parity of every damaged folder, and of one copy of each export that nobody touched."""
    place = tmp_path_factory.mktemp("damaged")
    sections = {work.part: work.section for work in works(stage_called("deploy"), trained.recipe, trained.folder)}
    variant = load_trained(sections["lora", "merged"], trained.folder, "lora")
    reference = take(variant)
    cases: dict[tuple[str, str], tuple[Any, Path]] = {}
    for export, damages in (("merged", MERGED), ("adapter", ADAPTER)):
        for name, (_, damage) in {"untouched": ("", lambda folder: None), **damages}.items():
            folder = place / export / name
            shutil.copytree(exported["exports"][f"lora/{export}"]["path"], folder)
            damage(folder)
            cases[export, name] = (sections["lora", export], folder)
    replies = reloaded([request(section, variant, reference, folder) for section, folder in cases.values()])
    return {
        case: judge(section, folder, reference, reply)
        for (case, (section, folder)), reply in zip(cases.items(), replies, strict=True)
    }


@pytest.mark.parametrize("export", ["merged", "adapter"])
def test_what_nobody_touched_is_the_trained_model(verdicts, export):
    assert verdicts[export, "untouched"].differences == []
    assert len(MERGED) + len(ADAPTER) >= 20


@pytest.mark.parametrize(
    ("export", "damage", "name"),
    [
        *(("merged", damage, name) for damage, (name, _) in MERGED.items()),
        *(("adapter", damage, name) for damage, (name, _) in ADAPTER.items()),
    ],
)
def test_a_mismatch_is_refused_by_name(verdicts, export, damage, name):
    parity = verdicts[export, damage]
    names = [found.name for found in parity.differences]
    assert name in names
    assert parity.to_json()["equal"] is False
    sentence = refusal(f"lora/{export}", parity)
    assert f"{names[0]}: " in sentence and "\n" not in sentence
