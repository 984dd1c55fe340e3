"""Accelerated blocks give the loss and the gradients of the model's own, family by family (fp32)."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
import torch
import transformers as hf

from luthier.core.shards import IGNORED, Example
from luthier.engine.accelerated import accelerate
from luthier.engine.accelerated.swap import kind, turn_back
from luthier.engine.batches import Layout, collate
from luthier.engine.step import Computation, step_loss
from luthier.methods import METHODS
from luthier.models.attention import Boundaries, packed
from luthier.models.head import mark_plain_head
from luthier.models.packing import adopt, counts_positions
from luthier.objectives import OBJECTIVES
from tests.models.toy import GQA, PART, V, make

BUILD = {
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**GQA, head_dim=8)),
    "gemma": lambda: hf.GemmaForCausalLM(hf.GemmaConfig(**GQA, head_dim=8)),
    "phi3-long": lambda: hf.Phi3ForCausalLM(
        hf.Phi3Config(
            **GQA, original_max_position_embeddings=64, max_position_embeddings=256,
            rope_parameters=PART | {"rope_type": "longrope", "short_factor": [1.0, 1.5], "long_factor": [2.0, 4.0]},
        )
    ),
    "phi-normed": lambda: hf.PhiForCausalLM(hf.PhiConfig(**GQA, rope_parameters=PART, qk_layernorm=True)),
    "flan-t5": lambda: hf.T5ForConditionalGeneration(
        hf.T5Config(
            vocab_size=V, d_model=32, d_ff=64, d_kv=8, num_layers=2, num_heads=4, decoder_start_token_id=0,
            dropout_rate=0.0, feed_forward_proj="gated-gelu",
        )
    ),
}  # fmt: skip
WHOLE = {"FastAttention", "FastMlp", "FastNorm", "FastLastLayer"}
PHI3 = {"FastPhi3Attention", "FastPhi3Mlp", "FastNorm", "FastPhi3LastLayer", "FastLora"}
PHI = {"FastPhiAttention", "FastPhiMlp", "FastPhiLastLayer", "FastLora"}
LORA = {
    "llama": WHOLE | {"FastLora"},
    "qwen2": WHOLE | {"FastLora"},
    "qwen3": WHOLE | {"FastLora"},
    "mistral": WHOLE | {"FastLora"},
    "gemma": WHOLE - {"FastNorm"} | {"FastGemmaNorm", "FastLora"},
    "gemma3": {"FastAttention", "FastMlp", "FastGemmaNorm", "FastLora"},
    "phi3": PHI3,
    "phi3-long": PHI3,
    "phi": PHI,
    "phi-normed": PHI,
    "flan-t5": {"FastNorm", "FastT5Attention", "FastT5Mlp", "FastLora"},
    "bloom": {"FastLora"},
}


def built(family: str):
    if family not in BUILD:
        return make(family)
    torch.manual_seed(0)
    model = BUILD[family]().eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            # T5 does not scale its scores: larger weights saturate the softmax, and fp32 rounds the gradients away
            torch.nn.init.normal_(parameter, std=0.1 if family == "flan-t5" else 0.2)
    return model


def rows(encoder_decoder: bool) -> list[Example]:
    """Rows of unequal length, of which parts in the middle and at the end are labelled."""
    rng = np.random.default_rng(0)
    found = []
    for number, length in enumerate([5, 41, 17, 8, 30, 2]):
        ids = rng.integers(2, V, length)
        labels = rng.integers(2, V, length // 2 + 1) if encoder_decoder else ids.copy()
        if not encoder_decoder:
            labels[rng.random(length) < 0.6] = IGNORED
        found.append(Example(ids, labels, number))
    return found


def measured(model, trainable, precision="fp32"):
    pair = model.config.is_encoder_decoder
    computation = Computation(trainable, OBJECTIVES["sft"], None, precision, torch.device("cpu"))
    batch = collate(rows(pair), Layout(pair, True, 0, 0, positions=counts_positions(model)))
    loss = step_loss(computation, [batch])
    gradients = {name: p.grad.clone() for name, p in trainable.parameters.items() if p.grad is not None}
    model.zero_grad()
    return loss, gradients


def prepared(family: str, method: str):
    model = built(family)
    assert adopt(model)
    mark_plain_head(model)
    options = {"rank": 3, "alpha": 5} if method == "lora" else {}
    trainable = METHODS[method].prepare(model, METHODS[method].config(**options), 0)
    with torch.no_grad():
        for name, parameter in trainable.parameters.items():
            if "lora_B" in name:
                parameter.normal_(std=0.2)
    return model, trainable


def assert_the_same(found, expected):
    """Loss and gradients; those that are small beside the whole, to a part of the whole."""
    (loss, gradients), (expected_loss, wanted) = found, expected
    assert loss == pytest.approx(expected_loss, rel=1e-5)
    assert gradients.keys() == wanted.keys()
    whole = torch.stack([g.norm() for g in wanted.values()]).norm()
    for name, value in wanted.items():
        assert (gradients[name] - value).norm() <= 1e-5 * max(value.norm(), 1e-2 * whole), name


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("family", LORA)
def test_loss_and_gradients_are_those_of_the_own_blocks(family, method):
    model, trainable = prepared(family, method)
    expected = measured(model, trainable)
    before = {name: parameter.detach().clone() for name, parameter in trainable.parameters.items()}
    found = accelerate(model, packs=True)
    assert set(found.blocks) == LORA[family] - (set() if method == "lora" else {"FastLora"})
    assert all(torch.equal(parameter, before[name]) for name, parameter in trainable.parameters.items())
    assert_the_same(measured(model, trainable), expected)


def test_a_model_without_accelerated_blocks_keeps_its_own():
    model, _ = prepared("gpt2", "full")
    found = accelerate(model, packs=True)
    assert found.path == "general" and "gpt2" in found.why


def test_blocks_that_compute_something_else_are_taken_out_again():
    """A norm of the usual name that adds 1 to its weight, as no other family's does."""
    model, trainable = prepared("llama", "full")
    norm = type(model.model.norm)

    class OddRMSNorm(norm):
        def forward(self, hidden_states):
            return super().forward(hidden_states) * (1 + self.weight)

    model.model.norm.__class__ = OddRMSNorm
    expected, _ = measured(model, trainable)
    found = accelerate(model, packs=True)
    assert found.path == "general" and "differ" in found.why
    assert type(model.model.norm) is OddRMSNorm and not any("Fast" in type(m).__name__ for m in model.modules())
    assert measured(model, trainable)[0] == expected


def test_gemma_gets_its_own_norms_back():
    model, trainable = prepared("gemma", "full")
    own, (expected, _) = type(model.model.norm), measured(model, trainable)
    accelerate(model, packs=True)
    for module in swap_in_of(model):
        turn_back(module)
    assert type(model.model.norm) is own and measured(model, trainable)[0] == expected


def test_a_family_that_is_not_known_keeps_its_blocks_and_gets_lora_alone():
    torch.manual_seed(0)
    model = hf.OlmoForCausalLM(hf.OlmoConfig(**GQA, clip_qkv=0.1)).eval()
    packs = adopt(model)
    trainable = METHODS["lora"].prepare(model, METHODS["lora"].config(rank=3), 0)
    assert trainable.parameters and set(accelerate(model, packs).blocks) <= {"FastLora"}


def test_a_batch_without_labels_adds_nothing():
    model, trainable = prepared("llama", "lora")
    accelerate(model, packs=True)
    computation = Computation(trainable, OBJECTIVES["sft"], None, "fp32", torch.device("cpu"))
    alone = Example(np.array([5]), np.array([5]), 0)
    assert step_loss(computation, [collate([alone], Layout(False, True, 0))]) == 0
    assert all(p.grad is None or not p.grad.any() for p in trainable.parameters.values())


def swap_in_of(model):
    return [module for module in model.modules() if hasattr(type(module), "luthier_own")]


@pytest.mark.parametrize("family", ["qwen2", "phi3", "phi"])
def test_generation_and_padded_rows_take_the_own_code(family):
    model, _ = prepared(family, "lora")
    ids, mask = torch.tensor([[0, 5, 9, 11], [7, 8, 9, 10]]), torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])
    settings = {"attention_mask": mask, "max_new_tokens": 8, "do_sample": False}
    before = model.generate(ids, **settings).tolist()
    assert accelerate(model, packs=True).path == "accelerated"
    assert model.generate(ids, **settings).tolist() == before


@pytest.mark.parametrize("change", ["dropout", "dora", "disabled", "merged"])
@pytest.mark.parametrize("family", ["llama", "phi3", "phi"])
def test_what_the_blocks_do_not_know_goes_the_general_way(family, change):
    import peft

    own = built(family)
    adopt(own)
    settings = peft.LoraConfig(
        r=3, target_modules="all-linear", lora_dropout=0.5 if change == "dropout" else 0, use_dora=change == "dora"
    )
    peft.inject_adapter_in_model(settings, own)
    fast = deepcopy(own)
    accelerate(fast, packs=True)
    for model in (own, fast):
        for layer in model.modules():
            if isinstance(layer, peft.tuners.lora.Linear):
                if change == "disabled":
                    layer.enable_adapters(False)
                if change == "merged":
                    layer.merge()
        model.train()
    ids = torch.arange(2, 12)[None]
    torch.manual_seed(1)
    expected = own(ids, use_cache=False).logits
    torch.manual_seed(1)
    torch.testing.assert_close(fast(ids, use_cache=False).logits, expected)


@pytest.mark.parametrize("family", ["phi3", "phi"])
def test_the_residual_stream_drops_what_the_own_code_drops(family):
    """With every position labelled, own and accelerated blocks draw the same masks from the same seed."""
    model, _ = prepared(family, "lora")
    for name, module in model.named_modules():
        if "resid" in name:
            module.p = 0.5
    fast = deepcopy(model)
    assert accelerate(fast, packs=True).path == "accelerated"
    ids, found = torch.arange(2, 14)[None], []
    for one in (model, fast):
        one.train()
        boundaries = Boundaries([5, 7], where=torch.arange(12))
        torch.manual_seed(1)
        with packed(boundaries):
            positions = torch.cat([torch.arange(5), torch.arange(7)])[None]
            found.append(one(ids, position_ids=positions, use_cache=False).logits)
        assert boundaries.taken == (one is fast)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-4)
    assert not torch.allclose(found[0], model.eval()(ids, use_cache=False).logits, atol=1e-2)


@pytest.mark.parametrize("family", ["llama", "phi3", "phi"])
def test_bf16_is_as_near_to_fp32_as_autocast_is(family):
    exact, _ = measured(*prepared(family, "lora"))
    own, _ = measured(*prepared(family, "lora"), precision="bf16")
    model, trainable = prepared(family, "lora")
    accelerate(model, packs=True)
    fast, _ = measured(model, trainable, precision="bf16")
    assert abs(fast - exact) < max(2 * abs(own - exact), 1e-2)


def test_names_of_kinds():
    model, _ = prepared("llama", "full")
    accelerate(model, packs=True)
    assert kind(model.model.norm) == "FastNorm"
