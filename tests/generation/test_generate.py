"""Batched greedy generation equals transformers' own, row by row, and stops where it must."""

from __future__ import annotations

import pytest
import torch

from luthier.generation.generate import generate
from luthier.methods import METHODS
from luthier.models.packing import adopt
from tests.toy_models import FAMILIES, VOCABULARY, toy_model

LENGTHS = (3, 9, 1, 17, 9, 5, 30)
NEW = 12


def prompts() -> list[list[int]]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, VOCABULARY, (length,), generator=generator).tolist() for length in LENGTHS]


def options(family: str, stop=(), new: int = NEW, **more):
    return {"pad": 0, "stop": stop, "max_new_tokens": new, **more}


def unlimited(model, prompt: list[int]) -> list[int]:
    """Transformers' greedy answer of exactly NEW tokens."""
    said = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False, max_new_tokens=NEW
    )[0].tolist()
    return said[1:] if model.config.is_encoder_decoder else said[len(prompt) :]


def until(answer: list[int], stop: set[int]) -> list[int]:
    ends = [place for place, token in enumerate(answer) if token in stop]
    return answer[: ends[0]] if ends else answer


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_transformers_with_and_without_stop_tokens(family):
    model = toy_model(family)
    expected = [unlimited(model, prompt) for prompt in prompts()]
    assert generate(model, prompts(), **options(family)) == expected
    stop = {expected[0][0], expected[1][4], expected[3][-1]}  # ends rows at the start, in the middle, at the end
    stopped = [until(answer, stop) for answer in expected]
    assert len({len(answer) for answer in stopped}) >= 3
    assert generate(model, prompts(), **options(family, stop)) == stopped


@pytest.mark.parametrize("family", FAMILIES)
def test_batching_changes_no_answer(family):
    model = toy_model(family)
    alone = [generate(model, [prompt], **options(family))[0] for prompt in prompts()]
    for budget in (1, 60, 8192):
        assert generate(model, prompts(), **options(family, tokens_per_batch=budget)) == alone


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2"])
def test_a_model_that_trains_on_packed_rows_answers_the_same(family):
    model = toy_model(family)
    expected = generate(model, prompts(), **options(family))
    assert adopt(model)
    assert generate(model, prompts(), **options(family)) == expected


def test_the_models_own_generation_settings_do_not_leak_in(recwarn):
    model = toy_model("llama")
    expected = generate(model, prompts(), **options("llama"))
    for name, setting in {"do_sample": True, "temperature": 9.0, "max_length": 2, "forced_bos_token_id": 5}.items():
        setattr(model.generation_config, name, setting)
    assert generate(model, prompts(), **options("llama")) == expected
    assert not recwarn


def test_longest_answer_and_empty_lists():
    model = toy_model("llama")
    assert generate(model, [], **options("llama")) == []
    whole = generate(model, prompts(), **options("llama"))
    for new in (0, 1, 5):
        assert generate(model, prompts(), **options("llama", new=new)) == [answer[:new] for answer in whole]


@pytest.mark.parametrize("training", [True, False])
def test_no_dropout_and_the_mode_is_restored(training):
    model = toy_model("gpt2")
    expected = generate(model, prompts(), **options("gpt2"))
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    model.train(training)
    assert generate(model, prompts(), **options("gpt2")) == expected
    assert model.training is training


@pytest.mark.parametrize("family", ["llama", "gpt2", "bloom", "t5"])
def test_virtual_tokens_that_copy_words_answer_as_those_words_do(family):
    model = toy_model(family)
    words = [4, 8, 15, 16]
    expected = generate(model, [[*words, *prompt] for prompt in prompts()], **options(family))
    method = METHODS["prompt"]
    trainable = method.prepare(model, method.config(tokens=4), 0)
    with torch.no_grad():
        (table,) = trainable.parameters.values()
        table.copy_(model.get_input_embeddings().weight[words])
    assert generate(model, prompts(), **options(family, prefix=trainable.prefix)) == expected
    assert generate(model, prompts(), **options(family)) != expected


def test_left_padding_reads_no_padding():
    """The id that pads stands for nothing: another one gives the same answers."""
    model = toy_model("bloom")
    other = options("bloom") | {"pad": 41}
    assert generate(model, prompts(), **other) == generate(model, prompts(), **options("bloom"))
