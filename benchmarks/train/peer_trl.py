"""TRL's SFTTrainer on the given steps."""

from __future__ import annotations

import tempfile
from typing import Any

from datasets import Dataset
from peft import PeftModel
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import SFTConfig, SFTTrainer  # pyright: ignore[reportMissingImports]

from benchmarks.train.cases import CLIP
from benchmarks.train.examples import IGNORED
from benchmarks.train.peer import Journal, Spec


class InOrder(SFTTrainer):
    """Takes the examples as they come: they are the steps of the other side."""

    def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Any:
        return SequentialSampler(self.train_dataset)  # pyright: ignore[reportArgumentType]


class Timed(TrainerCallback):
    """Notes the end of each step and the loss that is logged after it."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        """Time begins."""
        self.journal.start()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Called once after every step, with its loss, and once in the end."""
        if "loss" in logs:
            self.journal.step(logs["loss"])


def train(spec: Spec, journal: Journal) -> None:
    """Train."""
    steps = spec.steps()
    model: Any = AutoModelForCausalLM.from_pretrained(spec.model, dtype=spec.dtype)
    if spec.adapter:
        model = PeftModel.from_pretrained(model, spec.adapter, is_trainable=True)
    rows = [row for step in steps for row in step]
    data = Dataset.from_dict(
        {
            "input_ids": [row.input_ids for row in rows],
            "completion_mask": [[int(label != IGNORED) for label in row.labels] for row in rows],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = InOrder(
            model=model,
            args=_arguments(spec, folder, len(steps), len(steps[0])),
            train_dataset=data,
            processing_class=AutoTokenizer.from_pretrained(spec.model),
            callbacks=[Timed(journal)],
        )
        trainer.train()


def _arguments(spec: Spec, folder: str, steps: int, rows: int) -> Any:
    """TRL's defaults but for what both sides share; checkpointing, its default, is off unless asked for."""
    apart = spec.peer.apart or rows
    return SFTConfig(
        output_dir=folder,
        per_device_train_batch_size=apart,
        gradient_accumulation_steps=rows // apart,
        max_steps=steps,
        learning_rate=spec.cell.rate,
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=CLIP,
        bf16=spec.cell.precision == "bf16",
        gradient_checkpointing=spec.peer.checkpointing,
        padding_free=spec.peer.padding_free,
        completion_only_loss=True,
        max_length=None,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
