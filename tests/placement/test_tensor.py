"""Two processes that each hold a part of every matrix give what one gives, and its parts go on elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file

from luthier.core.errors import UserError
from luthier.core.files import read_json
from luthier.engine.placement import PLACEMENTS
from luthier.engine.placement.tensor import FAMILIES, cuts
from luthier.engine.placement.world import World
from luthier.recipe.schema import Training
from luthier.train import checkpoint, generators
from tests.placement.conftest import TWO
from tests.placement.test_two import (
    LONG,
    LORA,
    STEPS,
    assert_the_same_run,
    losses,
    stopped_after,
)
from tests.toy_models import toy_model
from tests.train import toy

TENSOR = {"name": "tensor"}
OTHERS = [family for family in FAMILIES if family != "llama"]


@pytest.mark.parametrize(
    ("family", "settings", "steps"),
    [
        ("llama", {"method": "full"}, LONG),
        ("llama", {"method": LORA, "activations": "recompute", "micro_tokens": 24}, 4),
        ("llama", {"method": {"name": "prompt", "tokens": 3}, "select": "exact_match"}, 1),
        *((family, {"method": "full", "validate_every": 0}, 1) for family in OTHERS),
    ],
    ids=["full", "lora", "prompt", *OTHERS],
)
def test_two_processes_train_as_one(pair, furnished, run, family, settings, steps):
    """Losses, norms, validations, answers and the saved model; several micro-batches a step."""
    folder, settings = furnished(family), {"micro_tokens": 48, **settings, "tokens_per_step": 90}
    one = run(folder, "one", max_steps=steps, **settings)
    two = run(folder, "two", TENSOR, max_steps=steps, **settings)
    assert_the_same_run(one, two)
    chosen = [read_json(out / "result.json")["chosen"] for out in (one, two)]
    assert [each["processes"] for each in chosen] == [1, 2]
    assert [each["path"] for each in chosen] == ["accelerated", "general"]


def test_the_parts_of_a_matrix_go_on_whole_and_shared_out_by_rows(pair, furnished, run, tmp_path):
    """Begun on one device, gone on with in parts and stopped, gone on with under fsdp, and ended on one device."""
    folder, out = furnished("llama"), tmp_path / "parts"
    settings = {"method": LORA, "tokens_per_step": 90, "micro_tokens": 48, "validate_every": 0}
    whole = run(folder, "whole", max_steps=STEPS, **settings)

    def go_on(placement, steps):
        run(folder, "parts", placement, max_steps=steps, **settings)
        (out / "result.json").unlink()

    go_on("one", 2)
    with stopped_after(out, 3):
        go_on(TENSOR, STEPS)
    last = int(checkpoint.steps(out / "checkpoints")[-1])
    assert (out / f"checkpoints/{last:08d}/weights").is_dir(), "each process has written its parts"
    go_on(TWO, last + 1)
    go_on("one", STEPS)
    assert losses(out) == pytest.approx(losses(whole), rel=1e-5)
    ours, theirs = (load_file(place / f"checkpoints/{STEPS:08d}/{checkpoint.WEIGHTS}") for place in (whole, out))
    toy.assert_same(ours, theirs, 2e-3)


@pytest.mark.parametrize("begun_by", [1, 2])
def test_processes_with_the_same_rows_draw_the_same_dropout(furnished, tmp_path, begun_by):
    """What one has begun, or two with rows of their own, two go on with: generators are made alike."""
    folder = furnished("llama")
    job, _ = toy.train(folder, toy.section(folder, method=LORA, max_steps=1), tmp_path)
    if begun_by == 2:
        torch.manual_seed(8)
        generators.write(tmp_path / "checkpoints" / "00000001", rank=1)
    drawn = []
    for cuts_layers in (True, False):
        for rank in (0, 1):
            world = World(rank, 2, cuts=cuts_layers)
            checkpoint.resume(
                tmp_path / "checkpoints", replace(job, computation=replace(job.computation, world=world))
            )
            drawn.append(torch.rand(4))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[2], drawn[3]), "with rows of their own, each draws its own"


@pytest.mark.parametrize(
    ("family", "count", "said"),
    [
        ("bloom", 2, r"cuts up the layers of llama, .*, not of a bloom: write train\.placement: fsdp"),
        (
            "llama",
            4,
            r"4 do not divide 4 heads, 2 heads of keys and values and .*: write 2 or train\.placement: fsdp",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_refused(family, count, said):
    with pytest.raises(UserError, match=said):
        list(cuts(toy_model(family), count))


def test_the_plan_says_so_before_another_variant_has_trained(furnished):
    """A job that is built alone, as the plan builds it, is refused already."""
    folder = furnished("gpt2")
    with pytest.raises(UserError, match="cuts up the layers of llama"):
        toy.job_of(folder, toy.section(folder, placement="tensor"))


def test_what_stands_beside_a_matrix_and_cannot_be_cut_is_refused():
    model = toy_model("llama")
    inject_adapter_in_model(LoraConfig(target_modules=["o_proj"], use_dora=True), model)
    with pytest.raises(
        UserError, match=r"plain linear layers, .* and layers\.0\.self_attn\.o_proj is more than that"
    ):
        list(cuts(model, 2))


def test_every_matrix_of_a_layer_is_cut_and_adapters_by_the_width_they_share():
    model = toy_model("llama")
    inject_adapter_in_model(LoraConfig(target_modules=["q_proj", "o_proj"]), model)
    found = dict(cuts(model, 2))
    query: Any = model.get_submodule("model.layers.0.self_attn.q_proj")
    output: Any = model.get_submodule("model.layers.0.self_attn.o_proj")
    assert found[query.base_layer] == found[query.lora_B["default"]] == "colwise"
    assert found[output.base_layer] == found[output.lora_A["default"]] == "rowwise"
    assert query.lora_A["default"] not in found and output.lora_B["default"] not in found
    assert len(found) == 2 * (7 + 2)


def test_what_cannot_be_placed_in_parts_is_said_before_anything_starts():
    entry = PLACEMENTS["tensor"]
    assert entry.lacking(Training.model_validate({"optimizer": "lion"})) is None
    reason = entry.lacking(Training.model_validate({"optimizer": "muon"}))
    assert reason is not None and reason.startswith("muon cannot do with the part of a matrix that tensor leaves")
    assert entry.processes(entry.config(processes=2), 0, torch.device("cpu")) == 2
    with pytest.raises(UserError, match=r"no GPU: write how many .* train\.placement\.processes: 2"):
        entry.processes(entry.config(), 0, torch.device("cpu"))
