"""Where the work is done: what is asked for, or a sentence that says why not."""

from __future__ import annotations

import pytest
import torch

from luthier.core.errors import UserError
from luthier.engine import memory
from luthier.engine.device import no_device, no_precision, pick_device, resolve_precision
from luthier.pipeline.validate import validate
from luthier.recipe.load import override, parse

RECIPE = {"name": "x", "model": {"base": "builtin:t5"}, "data": {"sources": "rows.jsonl"}}
THERE = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
ABSENT = [kind for kind, there in THERE.items() if not there]


def test_auto_takes_the_accelerator_and_cpu_can_be_insisted_on():
    best = next(kind for kind in ("cuda", "mps", "cpu") if THERE[kind])
    assert pick_device() == pick_device("auto") == torch.device(best)
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("kind", ABSENT)
def test_a_device_that_is_not_there_is_refused_before_anything_runs(kind):
    with pytest.raises(UserError, match=rf"train\.device: {kind} is .*: write auto or cpu"):
        pick_device(kind)
    recipe = parse(override(RECIPE, [f"train.variants={{a: {{device: {kind}}}}}"]))
    with pytest.raises(UserError, match=rf"train\.variants\.a\.device: {kind} is "):
        validate(recipe)
    validate(recipe, resolved=True)  # a run that was trained elsewhere can still be looked at


def test_a_device_that_is_there_is_not():
    assert [no_device(kind) for kind, there in THERE.items() if there] == [None] * sum(THERE.values())


def test_precision_by_device():
    gpu = torch.device("cuda")
    assert resolve_precision("fp16", gpu) == "fp16" and no_precision("fp16", "mps") is None
    assert [no_precision(name, "cpu") for name in ("auto", "fp32", "bf16")] == [None] * 3
    if torch.ops.mkldnn._is_mkldnn_fp16_supported():
        return
    with pytest.raises(UserError, match=r"train\.precision: "):
        validate(parse(override(RECIPE, ["train.precision=fp16", "train.device=cpu"])))


def test_memory_is_that_of_the_device_that_is_asked_for(monkeypatch):
    """On a machine with a GPU that holds 5 bytes, a training on the CPU holds what the process does."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: 5)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    try:
        memory.reset_peak(torch.device("cpu"))
        assert memory.current_bytes() > 10 * 2**20
        memory.reset_peak()
        assert memory.current_bytes() == 5
    finally:
        monkeypatch.undo()
        memory.reset_peak()
