"""Loading: fp32, seeds, added tokens at the mean of the others, damaged files refused."""

from __future__ import annotations

import json

import pytest
import torch
from transformers.utils.logging import add_handler, remove_handler

from luthier.core.artefacts import Artefacts
from luthier.core.errors import UserError
from luthier.methods.full import FULL, Full
from luthier.models import stage
from luthier.models.load import load_base
from luthier.recipe.schema import Model
from luthier.recipe.sections import ModelSection
from tests.chat.small import bytes_tokenizer
from tests.models.toy import BUILD, make

SIZE = len(bytes_tokenizer())


def save(folder, family="llama", tokens=SIZE, **settings):
    """A toy model with room for `tokens` beside a tokenizer of SIZE."""
    model = make(family)
    model.resize_token_embeddings(tokens, mean_resizing=False)
    model.to(settings.get("dtype", torch.float32)).save_pretrained(folder)
    bytes_tokenizer().save_pretrained(folder)
    return model


def section(folder, **settings) -> Model:
    return Model(base=str(folder), **settings)


def test_weights_come_in_fp32_and_unchanged(tmp_path):
    saved = save(tmp_path, dtype=torch.bfloat16)
    base = load_base(section(tmp_path))
    assert base.packed and not base.model.training
    for name, parameter in base.model.named_parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter, saved.get_parameter(name).float())


@pytest.mark.parametrize("spare", [0, 8])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_added_tokens_start_at_the_mean(tmp_path, family, spare):
    """Llama's tables are two, GPT-2's are tied; with spare rows the tables need not grow."""
    saved = save(tmp_path, family, SIZE + spare)
    base = load_base(section(tmp_path, add_tokens=("<|a|>", "<|b|>")))
    for before, after in (
        (saved.get_input_embeddings(), base.model.get_input_embeddings()),
        (saved.get_output_embeddings(), base.model.get_output_embeddings()),
    ):
        assert len(after.weight) == max(SIZE + 2, SIZE + spare)
        assert torch.equal(after.weight[:SIZE], before.weight[:SIZE])
        mean = before.weight[:SIZE].mean(0)
        torch.testing.assert_close(after.weight[SIZE : SIZE + 2], mean.expand(2, -1))
    assert base.packed


def save_untied(folder):
    """A T5 as FLAN-T5's folder is: the output layer a table of its own, beside a tokenizer of SIZE."""
    model = make("t5")
    model.resize_token_embeddings(SIZE, mean_resizing=False)
    head = model.get_output_embeddings()
    head.weight = torch.nn.Parameter(torch.randn_like(head.weight))
    model.config.tie_word_embeddings = False
    model.save_pretrained(folder)
    bytes_tokenizer().save_pretrained(folder)
    return model


def test_an_output_layer_of_its_own_stays_so_when_tokens_are_added(tmp_path):
    """transformers 5 takes every T5 for tied, and would put the embeddings in place of the output layer."""
    saved = save_untied(tmp_path)
    model = load_base(section(tmp_path, context=64, add_tokens=("<|a|>", "<|b|>"))).model
    for before, after in (
        (saved.get_input_embeddings().weight, model.get_input_embeddings().weight),
        (saved.get_output_embeddings().weight, model.get_output_embeddings().weight),
    ):
        assert torch.equal(after[:SIZE], before)
        torch.testing.assert_close(after[SIZE:], before.mean(0).expand(2, -1))
    assert model.encoder.embed_tokens.weight is model.decoder.embed_tokens.weight is model.shared.weight


def test_nothing_is_said_of_an_output_layer_of_its_own(tmp_path, caplog):
    save_untied(tmp_path)
    add_handler(caplog.handler)
    try:
        model = load_base(section(tmp_path, context=64)).model
        FULL.save(FULL.prepare(model, Full(), 0), tmp_path / "saved", Full(), "t5")
        FULL.load(model, tmp_path / "saved")
    finally:
        remove_handler(caplog.handler)
    assert caplog.messages == []


def test_a_known_token_is_not_added_again(tmp_path):
    saved = save(tmp_path)
    base = load_base(section(tmp_path, add_tokens=("<|im_end|>",)))
    assert torch.equal(base.model.get_input_embeddings().weight, saved.get_input_embeddings().weight)


def test_blank_weights_follow_the_seed():
    one, same, other = (load_base(Model(base="blank:t5"), seed).model.shared.weight for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_blank_leaves_the_random_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    load_base(Model(base="blank:t5"), seed=5)
    assert torch.equal(torch.rand(1), expected)


def test_the_builtin_t5_has_the_size_it_says():
    base = load_base(Model(base="blank:t5"))
    # embeddings; encoder 3 x (4 attention + 3 gated feed-forward matrices), decoder 3 x (8 + 3); relative biases and
    # norms: (3 x 2 + 1) + (3 x 3 + 1) vectors of 160
    attention, forward = 160 * 160, 160 * 384
    expected = 4096 * 160 + 3 * (4 * attention + 3 * forward) + 3 * (8 * attention + 3 * forward)
    expected += 2 * 32 * 5 + 17 * 160
    assert sum(p.numel() for p in base.model.parameters()) == expected == 2_685_920
    assert base.packed and base.encoder_decoder and base.context == 512


def test_damaged_weights(tmp_path):
    save(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"model\.safetensors is damaged"):
        load_base(section(tmp_path))


def test_weights_of_another_size(tmp_path):
    save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(UserError, match=r"do not fit its config\.json; the first, .* where the config says \(.*48"):
        load_base(section(tmp_path))


def test_a_missing_shard(tmp_path):
    make("llama").save_pretrained(tmp_path, max_shard_size="20KB")
    bytes_tokenizer().save_pretrained(tmp_path)
    sorted(tmp_path.glob("*.safetensors"))[0].unlink()
    with pytest.raises(UserError, match="is missing, though"):
        load_base(section(tmp_path))


def test_missing_weights_are_said(tmp_path, caplog):
    from safetensors.torch import load_file, save_file

    save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    load_base(section(tmp_path))
    assert "1 weights are missing and start at random: model.layers.1.mlp.up_proj.weight" in caplog.text


@pytest.mark.parametrize("family", sorted(BUILD))
def test_every_family_loads(tmp_path, family):
    save(tmp_path, family)
    assert load_base(section(tmp_path, context=64)).family == make(family).config.model_type


def test_stage(tmp_path):
    folder, out = tmp_path / "model", tmp_path / "out"
    out.mkdir()
    saved = save(folder)
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# A model\n")
    asked = ModelSection(seed=1, model=section(folder, add_tokens=("<|a|>",)))
    before = stage.dependencies(asked)
    assert stage.run(asked, Artefacts(tmp_path, {}), out).total == 0
    written = json.loads((out / "base.json").read_text())
    assert written["parameters"] == sum(p.numel() for p in saved.parameters()) + 2 * 32, "one row in each table"
    assert (written["vocab_size"], written["embedding_rows"], written["tied_embeddings"]) == (
        SIZE + 1,
        SIZE + 1,
        False,
    )
    assert (written["licence"], written["packed"], written["family"]) == ("apache-2.0", True, "llama")
    assert written["weights"] == {"model.safetensors": before["model.safetensors"]}
    (folder / "generation_config.json").write_text("{}")
    assert stage.dependencies(asked) != before
