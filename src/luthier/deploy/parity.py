"""Is the export the model that was trained? What differs, each thing under its name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from luthier.chat.template import template_for
from luthier.core.errors import UserError
from luthier.core.files import finite
from luthier.deploy.contract import Bounds
from luthier.deploy.excerpts import contrast
from luthier.deploy.fresh import Reply
from luthier.deploy.reference import Reference
from luthier.models.tokenizers import read_tokenizer
from luthier.recipe.schema import Data

CHUNK = 64  # positions whose probabilities are held at once, in fp64


@dataclass(frozen=True)
class Difference:
    """One thing in which the export is not the trained model: its name, and a sentence."""

    name: str
    sentence: str


@dataclass(frozen=True)
class Measures:
    """How far the logits lie apart; see `Bounds` for the units. None where their shapes differ."""

    largest: float
    scale: float
    kl: float
    kl_largest: float
    greedy: float


@dataclass(frozen=True)
class Parity:
    """The comparison of one export; it is refused where `differences` is not empty."""

    reference: Reference
    bounds: Bounds
    measures: Measures | None
    answers: int
    fingerprint: str | None
    differences: list[Difference]

    def to_json(self) -> dict[str, Any]:
        """As parity.json and `--json` show it."""
        asked, measures = self.reference, self.measures
        return {
            "equal": not self.differences,
            "rows": len(asked.rows),
            "positions": len(asked.logits),
            "largest_logit_difference": finite(measures.largest) if measures else None,
            "logit_scale": measures.scale if measures else None,
            "kl": finite(measures.kl) if measures else None,
            "kl_largest": finite(measures.kl_largest) if measures else None,
            "greedy_agreement": measures.greedy if measures else None,
            "answers": {"equal": self.answers, "of": len(asked.answers)},
            "prompts": len(asked.prompts),
            "texts": len(asked.texts),
            "bounds": asdict(self.bounds),
            "template": {"trained": asked.fingerprint, "export": self.fingerprint},
            "stop": dict(zip(asked.template["stop_tokens"], asked.template["stop_ids"], strict=True)),
            "differences": [asdict(difference) for difference in self.differences],
        }


def compare(reference: Reference, reply: Reply | str, bounds: Bounds, folder: Path, data: Data) -> Parity:
    """Everything in which the reloaded export differs from the trained model by more than its bounds."""
    if isinstance(reply, str):
        return Parity(reference, bounds, None, 0, None, [Difference("load", f"it cannot be reloaded: {reply}")])
    encoder_decoder = "decoder_input_ids" in reference.rows[0]["inputs"]
    fingerprint, of_template = _template(reference, folder, data, encoder_decoder)
    measures = measure(reference.logits, reply.logits) if reference.logits.shape == reply.logits.shape else None
    answers = _equal_answers(reference, reply)
    differences = [
        *_facts(reference.tokens, reply.facts["tokens"]),
        *_generation(reference.generation, reply.facts["generation"]),
        *_ids("prompt-ids", [_shown(p) for p in reference.prompts], reference.prompt_ids, reply.facts["prompts"]),
        *_ids("text-ids", reference.texts, reference.text_ids, reply.facts["texts"]),
        *of_template,
        *_numbers(reference, reply, measures, bounds),
        *_answers(reference, answers, bounds),
    ]
    return Parity(reference, bounds, measures, answers, fingerprint, differences)


def measure(trained: Tensor, export: Tensor) -> Measures:
    """Logits (N, V) of the trained model against the export's at the same N positions."""
    difference = (trained - export).abs()
    scale = (trained.max(dim=-1).values - trained.mean(dim=-1)).max()
    kl = torch.cat([_divergence(a, b) for a, b in zip(trained.split(CHUNK), export.split(CHUNK), strict=True)])
    same = trained.argmax(dim=-1) == export.argmax(dim=-1)
    return Measures(
        largest=difference.max().item(),
        scale=scale.item(),
        kl=kl.mean().item(),
        kl_largest=kl.max().item(),
        greedy=same.double().mean().item(),
    )


def _divergence(trained: Tensor, export: Tensor) -> Tensor:
    """KL(trained || export) at each position (N,), in nats."""
    ours, theirs = (logits.double().log_softmax(dim=-1) for logits in (trained, export))
    return (ours.exp() * (ours - theirs)).sum(dim=-1)


def _facts(trained: dict[str, Any], export: dict[str, Any]) -> Iterator[Difference]:
    for name in {**trained, **export}:
        if trained.get(name) != export.get(name):
            yield Difference(name, f"the tokenizer's {name}: {contrast(trained.get(name), export.get(name))}")


def _generation(trained: dict[str, Any], export: dict[str, Any]) -> Iterator[Difference]:
    for name in {**trained, **export}:
        if trained.get(name) != export.get(name):
            kind = "stop-tokens" if name == "eos_token_id" else "generation-settings"
            yield Difference(kind, f"generation's {name}: {contrast(trained.get(name), export.get(name))}")


def _ids(
    name: str, shown: Sequence[str], trained: Sequence[list[int]], export: Sequence[list[int]]
) -> list[Difference]:
    wrong = [at for at, (ours, theirs) in enumerate(zip(trained, export, strict=True)) if ours != theirs]
    if not wrong:
        return []
    at = wrong[0]
    told = contrast(trained[at], export[at])
    return [Difference(name, f"{len(wrong)} of {len(trained)} become other token ids; {shown[at]!r:.60}: {told}")]


def _template(
    reference: Reference, folder: Path, data: Data, encoder_decoder: bool
) -> tuple[str | None, list[Difference]]:
    """The fingerprint of the template that the exported tokenizer gives, and what is wrong with it."""
    name, found = "template-fingerprint", []
    if reference.rendered_with != reference.fingerprint:
        told = f"{reference.rendered_with[:12]}, and the base's tokenizer now gives {reference.fingerprint[:12]}"
        found.append(Difference(name, f"the rows were rendered with the template {told}"))
    try:
        template = template_for(read_tokenizer(folder), data, encoder_decoder)
    except UserError as error:
        return None, [*found, Difference(name, str(error))]
    described = template.describe()
    other = [key for key, value in reference.template.items() if described.get(key) != value]
    if other:
        told = contrast(reference.template[other[0]], described.get(other[0]))
        found.append(Difference(name, f"the template differs in {', '.join(other)}; {other[0]}: {told}"))
    return template.fingerprint, found


def _numbers(reference: Reference, reply: Reply, measures: Measures | None, bounds: Bounds) -> Iterator[Difference]:
    if measures is None:
        ours, theirs = tuple(reference.logits.shape), tuple(reply.logits.shape)
        yield Difference("logits", f"there are {theirs} of them where the trained model gives {ours}")
        return
    most = bounds.accepted(measures.scale)
    if not measures.largest <= most:  # so that a number that is none is beyond any bound
        yield Difference("logits", f"they differ by up to {measures.largest:.3g}, and at most {most:.3g} is accepted")
    if not measures.kl <= bounds.kl:
        yield Difference("kl", f"{measures.kl:.3g} nats a position, and at most {bounds.kl:g} is accepted")
    if measures.greedy < bounds.greedy:
        told = f"the most probable token is the same at {measures.greedy:.1%} of {len(reference.logits)} positions"
        yield Difference("greedy", f"{told}, and at least {bounds.greedy:.1%} is asked for")


def _equal_answers(reference: Reference, reply: Reply) -> int:
    """How many greedy answers are the same, and end where the trained model's do."""
    stops = set(reference.template["stop_ids"])
    said = [ids[:-1] if ids and ids[-1] in stops else ids for ids in reply.facts["answers"]]
    return sum(ours == theirs for ours, theirs in zip(reference.answers, said, strict=True))


def _answers(reference: Reference, equal: int, bounds: Bounds) -> Iterator[Difference]:
    of = len(reference.answers)
    if equal < bounds.answers * of:
        yield Difference("answers", f"{of - equal} of {of} greedy answers are other ones, or end elsewhere")


def _shown(prompt: dict[str, Any]) -> str:
    return prompt["text"] if "text" in prompt else prompt["messages"][-1]["content"]
