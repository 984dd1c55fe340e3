"""Soft prompts: PEFT's own reading of the saved folder, and a model that otherwise stays what it was."""

from __future__ import annotations

import peft
import pytest
import torch
from pydantic import ValidationError

from luthier.core.errors import UserError
from luthier.methods.prompt import Prompt, load, prepare, save
from tests.toy_models import FAMILIES, VOCABULARY, batch, logits, toy_model, train


@pytest.mark.parametrize("family", FAMILIES)
def test_plain_peft_loads_the_folder_to_the_last_bit(family, tmp_path):
    """On a padded batch; PEFT puts the prompt before the input by itself."""
    trainable = prepare(toy_model(family), Prompt(tokens=6), seed=1)
    train(trainable, 0.1, steps=3)
    save(trainable, tmp_path, Prompt(), "the/base")
    model = peft.PeftModel.from_pretrained(toy_model(family), tmp_path).eval()
    inputs = batch(trainable.model)
    with torch.no_grad():
        theirs = model(**inputs).logits
    if family != "t5":
        theirs = theirs[:, 6:][inputs["attention_mask"].bool()]
    assert torch.equal(logits(trainable), theirs)


def test_an_adapter_that_peft_wrote_loads(tmp_path):
    settings = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
    theirs = peft.get_peft_model(toy_model("llama"), settings).eval()
    theirs.save_pretrained(tmp_path)
    trainable = load(toy_model("llama"), tmp_path)
    inputs = batch(trainable.model)
    with torch.no_grad():
        expected = theirs(**inputs).logits[:, 5:][inputs["attention_mask"].bool()]
    assert torch.equal(logits(trainable), expected)


@pytest.mark.parametrize("family", FAMILIES)
def test_without_virtual_ids_the_model_is_the_base(family):
    model, base = toy_model(family), toy_model(family)
    names = dict(base.named_parameters()).keys()
    trainable = prepare(model, Prompt(tokens=3), seed=0)
    assert trainable.prefix == (VOCABULARY, VOCABULARY + 1, VOCABULARY + 2)
    assert dict(model.named_parameters()).keys() == names | trainable.parameters.keys()
    assert torch.equal(model.get_input_embeddings().weight, base.get_input_embeddings().weight)
    with torch.no_grad():
        assert torch.equal(model(**batch(model)).logits, base(**batch(base)).logits)


@pytest.mark.parametrize("family", FAMILIES)
def test_tied_weights_stay_tied_and_the_prompt_survives_tying(family):
    base = toy_model(family)
    trainable = prepare(toy_model(family), Prompt(tokens=3), seed=0)
    expected = logits(trainable)
    trainable.model.tie_weights()
    ties = base.get_output_embeddings().weight is base.get_input_embeddings().weight
    model = trainable.model
    assert (model.get_output_embeddings().weight is model.get_input_embeddings().weight) is ties
    assert torch.equal(logits(trainable), expected)
    assert any(name.endswith(".virtual") for name in model.state_dict())


@pytest.mark.parametrize("family", FAMILIES)
def test_it_starts_at_embeddings_of_the_vocabulary(family):
    """Each virtual token equals what the model makes of one word: the answer under it is that under the word."""
    trainable = prepare(toy_model(family), Prompt(tokens=8), seed=0)
    base = toy_model(family)
    (table,) = trainable.parameters.values()
    scale = 32**0.5 if family == "gemma" else 1.0  # Gemma's embedding multiplies by the root of its width
    embeddings = base.get_input_embeddings().weight * scale
    nearest = torch.cdist(table.detach(), embeddings).argmin(dim=1)
    assert torch.allclose(table, embeddings[nearest], rtol=1e-6) and len(nearest.unique()) > 1
    words, virtual = (batch(base, tuple(ids)) for ids in (nearest.tolist(), trainable.prefix))
    with torch.no_grad():
        assert torch.allclose(base(**words).logits, trainable.model(**virtual).logits, atol=1e-5)


def test_the_random_start_is_uniform():
    trainable = prepare(toy_model("llama"), Prompt(tokens=500, init="random"), seed=0)
    (table,) = trainable.parameters.values()
    assert -0.5 <= table.min() < -0.49 and 0.49 < table.max() <= 0.5
    assert abs(table.var().item() - 1 / 12) < 2e-3


def test_only_the_virtual_token_that_is_read_gets_a_gradient():
    trainable = prepare(toy_model("llama"), Prompt(tokens=4), seed=0)
    ids = torch.tensor([[trainable.prefix[2], 5, 6]])
    trainable.model(input_ids=ids).logits.sum().backward()
    (table,) = trainable.parameters.values()
    assert (table.grad.abs().sum(dim=1) > 0).tolist() == [False, False, True, False]


def test_a_prompt_of_another_width_or_kind_is_refused(tmp_path):
    trainable = prepare(toy_model("llama"), Prompt(tokens=4), seed=0)
    save(trainable, tmp_path, Prompt(), "base")
    config = tmp_path / "adapter_config.json"
    config.write_text(config.read_text().replace('"num_virtual_tokens": 4', '"num_virtual_tokens": 9'))
    with pytest.raises(UserError, match=r"prompt_embeddings is \(4, 32\) in the adapter and \(9, 32\) in the base"):
        load(toy_model("llama"), tmp_path)
    config.write_text(config.read_text().replace("PROMPT_TUNING", "IA3"))
    with pytest.raises(UserError, match="was made by IA3Config, not PromptTuningConfig"):
        load(toy_model("llama"), tmp_path)


@pytest.mark.parametrize("options", [{"tokens": 0}, {"init": "zeros"}])
def test_impossible_options_are_refused(options):
    with pytest.raises(ValidationError):
        Prompt(**options)
