"""Cross-entropy over labelled tokens: the term that `sft` and `text` share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from luthier.objectives.contract import Batch, LossOutput, Outputs, Term


class NoOptions(BaseModel):
    """An objective without options."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def token_counts(batch: Batch) -> dict[str, int]:
    """How many tokens are labelled."""
    return {"tokens": len(batch.labels)}


def token_loss(outputs: Outputs, batch: Batch, config: BaseModel) -> LossOutput:
    """Sum over the labelled tokens of -ln p(token), in nats."""
    return LossOutput({"tokens": Term(outputs.nll(batch.labels).sum())})
