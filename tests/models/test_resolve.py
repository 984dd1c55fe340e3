"""Bases found and refused, each refusal in a sentence that mends it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from luthier.core.errors import UserError
from luthier.models.resolve import BUILTIN, resolve
from luthier.models.tokenizers import load_tokenizer
from luthier.recipe.schema import Model
from tests.chat.small import bytes_tokenizer
from tests.models.toy import make


@pytest.fixture
def folder(tmp_path):
    """A saved toy Llama with a tokenizer."""
    make("llama").save_pretrained(tmp_path)
    bytes_tokenizer().save_pretrained(tmp_path)
    return tmp_path


def change(folder, **values):
    path = folder / "config.json"
    config = json.loads(path.read_text()) | values
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))


def refusal(base, **settings) -> str:
    with pytest.raises(UserError) as caught:
        resolve(Model(base=str(base), **settings))
    return str(caught.value)


def test_a_folder(folder):
    found = resolve(Model(base=str(folder)))
    assert (found.family, found.encoder_decoder, found.revision) == ("llama", False, None)
    assert found.context == json.loads((folder / "config.json").read_text())["max_position_embeddings"]
    assert resolve(Model(base=str(folder), context=64)).context == 64


def test_the_builtin_architecture():
    found = resolve(Model(base="blank:t5"))
    assert (found.family, found.encoder_decoder, found.context, found.blank) == ("t5", True, 512, True)
    assert resolve(Model(base="blank:t5", context=1024)).context == 1024, "relative positions have no end"


def test_refusals_name_the_remedy(folder, tmp_path_factory):
    assert "did you mean 't5'" in refusal("builtin:t4") or "known:" in refusal("builtin:t4")
    assert "there is no folder" in refusal(folder / "nothing")
    assert "holds no config.json" in refusal(tmp_path_factory.mktemp("empty"))
    assert "is a file" in refusal(folder / "config.json")
    assert "at most" in refusal(folder, context=10**6)


def test_a_hub_id_without_the_hub(monkeypatch):
    assert "connect and unset HF_HUB_OFFLINE" in refusal("nobody/nothing-at-all")
    assert "neither a folder here nor a hub id" in refusal("no spaces allowed")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"architectures": ["BertForMaskedLM"]}, "causal and encoder-decoder"),
        ({"architectures": ["OwnForCausalLM"], "auto_map": {"AutoModel": "own.Own"}}, "runs no remote code"),
        ({"architectures": ["OwnForCausalLM"]}, "unknown to this transformers"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"model_type": None}, "names no model_type"),
    ],
)
def test_models_that_cannot_be_trained(folder, values, message):
    change(folder, **values)
    assert message in refusal(folder)


def test_broken_json(folder):
    (folder / "config.json").write_text("{\n\n,")
    assert "line 3" in refusal(folder)


def test_without_tokenizer(folder):
    (folder / "tokenizer.json").unlink()
    assert "has no tokenizer" in refusal(folder)


def test_pickled_weights_only(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "save_pretrained" in refusal(folder)
    (folder / "pytorch_model.bin").unlink()
    assert "has no weights" in refusal(folder)


def test_an_adapter_is_not_a_base(folder):
    (folder / "config.json").unlink()
    (folder / "adapter_config.json").write_text("{}")
    assert "is an adapter" in refusal(folder)


def test_the_context_may_be_unknown(folder):
    change(folder, max_position_embeddings=None)
    assert "write model.context" in refusal(folder)
    assert resolve(Model(base=str(folder), context=128)).context == 128


def test_builtin_names_are_folders():
    assert (BUILTIN / "t5" / "config.json").is_file()


def test_added_tokens_and_padding(folder):
    tokenizer = load_tokenizer(Model(base=str(folder), add_tokens=("<|tool|>",)))
    assert tokenizer.encode("a<|tool|>b") == [*tokenizer.encode("a"), len(tokenizer) - 1, *tokenizer.encode("b")]
    assert tokenizer.pad_token == "</s>", "no token made for padding: the end token, masked by position"


def test_tokenizers_need_no_torch(folder):
    code = (
        "import sys; from luthier.recipe.schema import Model; from luthier.models.tokenizers import load_tokenizer;"
        "from luthier.chat.template import template_for;"
        f"load_tokenizer(Model(base={str(folder)!r})); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.data
@pytest.mark.parametrize("name", ["flan-t5", "gpt2"])
def test_the_light_loader_gives_transformers_ids(data_folder, name):
    from transformers import AutoTokenizer

    from luthier.models.tokenizers import read_tokenizer

    folder = data_folder / "tokenizers" / name
    light, whole = read_tokenizer(folder), AutoTokenizer.from_pretrained(folder)
    text = "Hello,\n\nworld! 1234 é 日本 (again) " * 200 + "end"
    assert light.encode(text, verbose=False) == whole.encode(text, verbose=False)


def test_a_hub_snapshot_that_was_downloaded_before(folder, tmp_path_factory, monkeypatch):
    from huggingface_hub import constants

    from luthier.models import stage
    from luthier.models.load import load_base
    from luthier.recipe.sections import ModelSection

    commit = "0123456789abcdef0123456789abcdef01234567"
    cache = tmp_path_factory.mktemp("hub")
    snapshot = cache / "models--owner--name" / "snapshots" / commit
    snapshot.parent.mkdir(parents=True)
    folder.rename(snapshot)
    (cache / "models--owner--name" / "refs").mkdir()
    (cache / "models--owner--name" / "refs" / "main").write_text(commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    found = resolve(Model(base="owner/name"))
    assert (found.folder, found.revision) == (snapshot, commit)
    assert load_base(Model(base="owner/name")).packed
    assert stage.dependencies(ModelSection(seed=1, model=Model(base="owner/name"))) == {"owner/name": commit}


def test_a_broken_tokenizer(folder):
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match="cannot be read"):
        load_tokenizer(Model(base=str(folder)))
