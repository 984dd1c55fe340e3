"""Time and money of a run from what the probe measured, and whether the budget holds it. Pure arithmetic.

training    tokens of all steps x seconds per token + steps x seconds per update
            + validations x (tokens of the validation rows x seconds per token scored + their answers)
            where the states of a frozen part are kept, rows of later epochs and validations after the first have
            rates of their own
answers     rows x (seconds to read a prompt + new tokens x seconds per new token), in batches of many rows
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from luthier.core.errors import Refusal
from luthier.engine.steps import validation_steps
from luthier.recipe.schema import Budget

HOUR = 3600.0


@dataclass(frozen=True)
class Rates:
    """Seconds, measured: per token trained, per update, per token scored, per row read, per row and new token.

    `replayed` and `rescored` are those of tokens trained and scored whose states of a frozen part were kept; None
    where none are.
    """

    trained: float
    updated: float
    scored: float
    read: float
    spoken: float
    replayed: float | None = None
    rescored: float | None = None


@dataclass(frozen=True)
class Amounts:
    """How much there is to do for one variant.

    `tokens` over all `steps`, `seen` of which stand in rows that an earlier epoch has seen; `validations` and the
    `validation_tokens` of each; `asked` rows answered at each; the `test_rows` and `test_tokens` at the end;
    `new_tokens` of an answer.
    """

    steps: int
    tokens: int
    validations: int
    validation_tokens: int
    asked: int
    test_rows: int
    test_tokens: int
    new_tokens: int
    seen: int = 0


def answer_seconds(rates: Rates, rows: int, new_tokens: int, prompts: int = 1) -> float:
    """Seconds to answer `rows` prompts, each `prompts` times as long as usual (few-shot)."""
    return rows * (prompts * rates.read + new_tokens * rates.spoken)


def training_seconds(rates: Rates, amounts: Amounts) -> float:
    """Seconds of a variant's training with its validations."""
    replayed = rates.trained if rates.replayed is None else rates.replayed
    rescored = rates.scored if rates.rescored is None else rates.rescored
    steps = (amounts.tokens - amounts.seen) * rates.trained + amounts.seen * replayed + amounts.steps * rates.updated
    again = max(amounts.validations - 1, 0)
    scored = amounts.validation_tokens * ((amounts.validations - again) * rates.scored + again * rescored)
    return steps + scored + amounts.validations * answer_seconds(rates, amounts.asked, amounts.new_tokens)


def test_seconds(rates: Rates, amounts: Amounts, prompts: int = 1) -> float:
    """Seconds to score and answer the test rows once."""
    scored = prompts * amounts.test_tokens * rates.scored
    return scored + answer_seconds(rates, amounts.test_rows, amounts.new_tokens, prompts)


def validations(steps: int, share: float) -> int:
    """How often a run of so many steps validates."""
    return len(validation_steps(steps, share))


def dollars(seconds: float, usd_per_hour: float) -> float:
    """What so many seconds of this machine cost."""
    return seconds / HOUR * usd_per_hour


def check_budget(
    budget: Budget, usd_per_hour: float, training: Mapping[str, float], fixed: float, epochs: float
) -> None:
    """Raise Refusal where training (seconds by variant) and the `fixed` rest cost more than the budget.

    The message names the cheapest change that fits: fewer epochs, then fewer rows, then fewer variants.
    """
    limits = [] if budget.hours is None else [budget.hours * HOUR]
    if budget.usd is not None and usd_per_hour:
        limits.append(budget.usd / usd_per_hour * HOUR)
    total = sum(training.values()) + fixed
    if not limits or total <= min(limits):
        return
    limit = min(limits)
    raise Refusal(
        f"the run would take {words(total)} ({dollars(total, usd_per_hour):.3g} usd) and the budget is "
        f"{words(limit)} ({dollars(limit, usd_per_hour):.3g} usd): {change(limit, training, fixed, epochs)}, "
        "or raise plan.budget"
    )


def change(limit: float, training: Mapping[str, float], fixed: float, epochs: float) -> str:
    """The cheapest change after which a run fits the limit (seconds)."""
    total = sum(training.values())
    share = (limit - fixed) / total
    fitting = math.floor(share * epochs * 10) / 10
    if fitting >= 1:
        return f"write train.epochs: {fitting:g}"
    if share * epochs > 0.1:
        return f"write train.epochs: 1 and take {share * epochs:.0%} of the rows (data.sources.<name>.rows)"
    quickest = min(training, key=lambda name: training[name])
    if len(training) > 1 and training[quickest] + fixed / len(training) <= limit:
        return f"train the variant {quickest} alone"
    return "take a smaller model, or fewer test rows (data.split.test) and fewer rows"


def words(seconds: float) -> str:
    """A span of time for people."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / HOUR:.1f} hours"
