"""One workload on the GPU, trained by TRL as it comes, by TRL tuned, and by Luthier's engine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from benchmarks.train.gpu_varlen import register_varlen
from benchmarks.train.gpu_work import ALPHA, CLIP, RANK, RATE, Clock, labelled, model

PROFILE = "BENCH_GPU_PROFILE"  # in the environment: the last step is profiled
Steps = Sequence[Sequence[Sequence[int]]]


def luthier(size: str, steps: Steps, full: bool, device: torch.device, micro: int) -> tuple[Clock, str]:
    """Luthier's engine in bf16; of a step, at most 1/micro of the tokens at once, or all and nothing kept (0)."""
    from luthier.core.shards import IGNORED, Example
    from luthier.engine.accelerated import accelerate
    from luthier.engine.batches import Layout, collate
    from luthier.engine.halves import halve_frozen
    from luthier.engine.optimizers import OPTIMIZERS
    from luthier.engine.optimizers.weights import weights_of
    from luthier.engine.recompute import recompute
    from luthier.engine.step import Computation, set_learning_rate
    from luthier.engine.steps import micro_batches
    from luthier.methods import METHODS
    from luthier.models.head import mark_plain_head
    from luthier.models.packing import adopt
    from luthier.objectives import OBJECTIVES

    base = model(size, torch.float32, device).eval()
    mark_plain_head(base)
    packs = adopt(base)
    method = METHODS["full" if full else "lora"]
    options = {} if full else {"rank": RANK, "alpha": ALPHA}
    trainable = method.prepare(base, method.config(**options), 0)
    path = accelerate(base, packs)
    halve_frozen(base, "bf16")
    if micro == 0:
        recompute(base)
    objective, rule = OBJECTIVES["sft"], OPTIMIZERS["adamw"]
    settings = objective.config()
    computation = Computation(trainable, objective, settings, "bf16", device)
    optimizer = rule.build(weights_of(trainable), rule.config(weight_decay=0.0), 0)
    set_learning_rate(optimizer, RATE)
    layout = Layout(encoder_decoder=False, packed=packs, pad=0)
    base.train()
    clock = Clock(device)
    clock.start()
    for number, step in enumerate(steps):
        rows = [np.asarray(row) for row in step]
        lengths = np.array([len(row) for row in rows])
        asked = [np.where(np.arange(n) < n - labelled(n), IGNORED, row) for n, row in zip(lengths, rows, strict=True)]
        examples = [Example(row, labels, i) for i, (row, labels) in enumerate(zip(rows, asked, strict=True))]
        budget = max(-(-int(lengths.sum()) // max(micro, 1)), int(lengths.max()))
        groups = micro_batches(np.arange(len(rows)), lengths, budget, packs)
        batches = [collate([examples[i] for i in group], layout, device) for group in groups]
        with profiled(clock, on=PROFILE in os.environ and number == len(steps) - 1):
            pending = rule.update(computation, optimizer, batches, CLIP)
            pending.apply()
            optimizer.zero_grad(set_to_none=True)
        clock.step(pending.result.loss)
    return clock, f"{path.path}: {path.why}" + (", checkpointing" if micro == 0 else "")


@contextmanager
def profiled(clock: Clock, on: bool) -> Iterator[None]:
    """Write down where the device's time goes in this step, which is not timed for anything else."""
    if not on:
        yield
        return
    from torch.profiler import ProfilerActivity, profile

    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if clock.device.type == "cuda" else [])]
    with profile(activities=kinds) as seen:
        yield
        if clock.device.type == "cuda":
            torch.cuda.synchronize()
    found = [(e.key[:80], e.count, round(e.self_device_time_total / 1e3, 2)) for e in seen.key_averages()]
    clock.kernels = sorted((row for row in found if row[2]), key=lambda row: -row[2])[:25]


def trl_default(size: str, steps: Steps, full: bool, device: torch.device, micro: int) -> tuple[Clock, str]:
    """TRL with its defaults: fp32 weights, bf16 autocast, activation checkpointing, padded rows."""
    base = model(size, torch.float32, device)
    return _trl(base, steps, full, device, {"per_device_train_batch_size": len(steps[0])}), "padded, checkpointing"


def trl_tuned(size: str, steps: Steps, full: bool, device: torch.device, micro: int) -> tuple[Clock, str]:
    """TRL with bf16 weights, rows without padding, the flash kernel, and no checkpointing if it fits.

    `micro` 0: nothing fits without checkpointing.
    """
    attention = register_varlen() if device.type == "cuda" else "sdpa"
    base = model(size, torch.bfloat16, device, attention)
    count = len(steps[0])
    parts = next(parts for parts in range(max(micro, 1), count + 1) if count % parts == 0)
    options = {
        "per_device_train_batch_size": count // parts,
        "gradient_accumulation_steps": parts,
        "gradient_checkpointing": micro == 0,
        "padding_free": count // parts > 1,
    }
    how = f"bf16 weights, padding-free, {attention}, {parts} micro-batches"
    return _trl(base, steps, full, device, options), how + (", checkpointing" if micro == 0 else "")


SIDES = {"TRL default": trl_default, "TRL tuned": trl_tuned, "Luthier": luthier}


def _trl(base: Any, steps: Steps, full: bool, device: torch.device, options: dict[str, Any]) -> Clock:
    import tempfile

    from datasets import Dataset
    from peft import LoraConfig
    from torch.utils.data import SequentialSampler
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer  # pyright: ignore[reportMissingImports]

    clock = Clock(device)

    class Timed(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            clock.start()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            clock.step()

    class InOrder(SFTTrainer):
        def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
            return SequentialSampler(self.train_dataset)  # pyright: ignore[reportArgumentType]

    rows = [list(row) for step in steps for row in step]
    labels = [[-100] * (len(row) - labelled(len(row))) + row[-labelled(len(row)) :] for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        arguments = SFTConfig(
            output_dir=folder,
            max_steps=len(steps),
            learning_rate=RATE,
            lr_scheduler_type="constant",
            max_grad_norm=CLIP,
            bf16=True,
            use_cpu=device.type == "cpu",
            max_length=None,
            completion_only_loss=False,
            logging_steps=1,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            **options,
        )
        trainer = InOrder(
            model=base,
            args=arguments,
            train_dataset=Dataset.from_dict({"input_ids": rows, "labels": labels}),
            processing_class=_tokenizer(base.config.vocab_size),
            peft_config=None if full else LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules="all-linear"),
            callbacks=[Timed()],
        )
        trainer.train()
        clock.losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return clock


def _tokenizer(size: int) -> Any:
    """TRL wants one, and asks it nothing: the rows are tokens already."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast

    made = Tokenizer(WordLevel({"<pad>": 0, "<s>": 1, "</s>": 2}, unk_token="<pad>"))
    return PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", bos_token="<s>", eos_token="</s>")
