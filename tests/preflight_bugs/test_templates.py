"""Planted bugs between training and inference: BOS, the template, the system message, tokens in pieces."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from luthier.core.records import Conversation, Record
from luthier.core.shards import Example
from luthier.plan.stage import _untrained
from luthier.recipe.sections import PlanSection
from tests.preflight_bugs.house import CHATML, SPECIAL, House, alarms, house, tokenizer_of


def edit_tokenizer(built: House, **changes: object) -> None:
    """Change the tokenizer's files in the model folder, as another download or a hand would."""
    path = built.folder / "model" / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_bos_doubled_by_a_prompt_that_writes_it_too(tmp_path):
    built = house(tmp_path, "plain", data={"prompt": "<s>{prompt}\n"})
    assert alarms(built.subject()) == {"bos-doubled": "error"}


def test_bos_doubled_in_shards_rendered_twice(tmp_path):
    def twice(example: Example, record: Record) -> Example:
        first = example.input_ids[:1]
        return replace(example, input_ids=np.r_[first, example.input_ids], labels=np.r_[[-100], example.labels])

    assert alarms(house(tmp_path, "plain").rewrite(twice).subject()) == {"bos-doubled": "error"}


def test_bos_missing_in_rows_rendered_without_special_tokens(tmp_path):
    def bare(example: Example, record: Record) -> Example:
        return replace(example, input_ids=example.input_ids[1:], labels=example.labels[1:])

    assert alarms(house(tmp_path, "plain").rewrite(bare).subject()) == {"bos-missing": "error"}


def test_bos_missing_because_the_tokenizer_was_saved_without_it(tmp_path):
    """Training and inference agree, so only the pretraining was otherwise: a warning."""
    tokenizer = tokenizer_of("chat")
    tokenizer.chat_template = None
    tokenizer.bos_token = "<s>"
    built = house(tmp_path, "plain", tokenizer=tokenizer)
    assert alarms(built.subject()) == {"bos-missing": "warning"}


def test_template_changed_after_rendering(tmp_path):
    built = house(tmp_path, "chat")
    (built.folder / "model" / "chat_template.jinja").write_text(CHATML.replace("\n", ":\n"))
    assert alarms(built.subject()) == {"template-changed": "error"}


def test_template_changed_in_the_recipe_after_rendering(tmp_path):
    built = house(tmp_path, "plain", data={"prompt": "{prompt} ="})
    changed = replace(built, data={"prompt": "{prompt}:"})
    assert alarms(changed.subject()) == {"template-changed": "error"}


def test_template_at_training_other_than_at_inference_though_called_the_same(tmp_path):
    """A renderer that leaves a space at the end of the prompt, which inference does not."""
    built = house(tmp_path, "plain")
    template = built.job().template

    def spaced(example: Example, record: Record) -> Example:
        return template.render(replace(record, prompt=f"{record.prompt} #"))

    assert alarms(built.rewrite(spaced).subject()) == {"template-changed": "error"}


def test_system_prompt_lost_by_a_renderer_that_skips_the_role(tmp_path):
    built = house(tmp_path, "chat")
    template = built.job().template

    def without(example: Example, record: Record) -> Example:
        assert isinstance(record, Conversation)
        return template.render(replace(record, messages=tuple(m for m in record.messages if m.role != "system")))

    assert alarms(built.rewrite(without).subject()) == {"system-prompt-lost": "error"}


@pytest.mark.parametrize("kind", ["plain", "t5"])
def test_system_prompt_of_the_recipe_lost(tmp_path, kind):
    built = house(tmp_path, kind, data={"system": "Answer like a pirate."})
    assert alarms(built.subject()) == {}
    plain = built.job().template
    silent = replace(plain, data=plain.data.model_copy(update={"system": None}))
    lost = built.rewrite(lambda example, record: silent.render(record))
    assert alarms(lost.subject()) == {"system-prompt-lost": "error"}


def test_special_token_split_where_the_tokenizer_lacks_the_templates_markers(tmp_path):
    """A chat template copied to a tokenizer that has one of its markers only."""
    tokenizer = tokenizer_of("chat", tuple(token for token in SPECIAL if token != "<|im_start|>"))
    built = house(tmp_path, "chat", tokenizer=tokenizer)
    assert alarms(built.subject()) == {"special-token-split": "error"}


def test_special_token_split_by_a_renderer_that_escapes_special_tokens(tmp_path):
    built = house(tmp_path, "chat")
    tokenizer = built.job().base.tokenizer
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    pieces = [token for word in ("<", "|", "im", "_", "start", "|", ">") for token in tokenizer.encode(word)]

    def split(example: Example, record: Record) -> Example:
        inputs, labels = [], []
        for token, label in zip(example.input_ids, example.labels, strict=True):
            inputs += pieces if token == start else [token]
            labels += [-100] * len(pieces) if token == start else [label]
        return replace(example, input_ids=np.array(inputs), labels=np.array(labels))

    assert alarms(built.rewrite(split).subject()) == {"special-token-split": "error"}


def test_a_marker_that_people_wrote_themselves_is_no_bug(tmp_path):
    rows = [{"prompt": f"{i} what does <|im_go|> mean, {i * 7919}?", "completion": f"go on {i}"} for i in range(24)]
    tokenizer = tokenizer_of("chat")
    tokenizer.chat_template = CHATML + "{# <|im_go|> #}"
    assert alarms(house(tmp_path, "chat", rows=rows, tokenizer=tokenizer).subject()) == {}


def added(built: House) -> dict[str, str]:
    """The alarms of a set-up with added tokens."""
    recipe = built.recipe
    values = {name: getattr(recipe, name) for name in PlanSection.model_fields}
    return alarms(built.subject(built.job(recipe.train.names[0]), _untrained(PlanSection(**values), built.shards)))


def test_added_token_never_trained_because_no_row_has_it(tmp_path):
    assert added(house(tmp_path, "plain", model={"add_tokens": ["<summary>"]})) == {"added-token-untrained": "error"}


def test_added_token_never_trained_because_the_method_leaves_it_as_it_is(tmp_path):
    changes = {"model": {"add_tokens": ["<summary>"]}, "data": {"prompt": "{prompt}<summary>"}}
    for name, method in (("lora", "lora"), ("prompt", {"name": "prompt", "tokens": 4})):
        folder = tmp_path / name
        folder.mkdir()
        built = house(folder, "plain", **changes, train={"variants": {"full": {}, name: {"method": method}}})
        assert added(built) == {"added-token-untrained": "error"}


def test_an_added_token_that_stands_in_the_rows_and_trains_is_no_bug(tmp_path):
    built = house(tmp_path, "plain", model={"add_tokens": ["<summary>"]}, data={"prompt": "{prompt}<summary>"})
    assert added(built) == {}
