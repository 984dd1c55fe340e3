"""Does every answer end in the token at which generation stops, and is that token trained?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from luthier.plan.checks.answers import fault
from luthier.plan.checks.text import has_answer
from luthier.plan.finding import Finding, error, ok
from luthier.plan.subject import Row, Subject

Ending = Literal["trained", "masked", "absent", "other"]


def ending(subject: Subject, row: Row) -> tuple[Ending, int | None] | None:
    """What follows the last trained token of text, and that token; None where no whole answer is trained.

    The row as the data stage wrote it tells a stop token that is absent from one that the batch masks.
    """
    if subject.rewritten or not has_answer(row.record) or fault(subject, row) == "incomplete":
        return None
    special = {*subject.tokenizer.all_special_ids, *subject.template.stop_ids}
    backwards = zip(row.trained[::-1], row.said[::-1], strict=True)
    spoken = next((int(at) for at, token in backwards if _is_text(subject, int(token), special)), None)
    if spoken is None:
        return None
    after = spoken + 1
    in_batch = [int(token) for token in row.sequence[after:] if token >= 0]
    as_written = [int(token) for token in row.written.labels[after:] if token >= 0]
    following = next((t for t in [*in_batch, *as_written] if t in special or _is_text(subject, t, special)), None)
    if following is None and subject.encoder_decoder and len(row.written.labels) > after:
        return "masked", subject.template.stop  # the decoder is asked for nothing where the stop token has its place
    if following is None or following not in special:
        return "absent", None
    if following not in subject.template.stop_ids:
        return "other", following
    return ("trained" if following in row.said[row.trained >= after] else "masked"), following


def _is_text(subject: Subject, token: int, special: set[int]) -> bool:
    return token not in special and bool(subject.text([token]).strip())


def _judge(subject: Subject, kind: Ending, good: str, bad: Callable[[Row, str, int], str]) -> Finding:
    """An error naming the first row of this kind, if there is one."""
    endings = [(row, ending(subject, row)) for row in subject.rows]
    wrong = [(row, found[1]) for row, found in endings if found is not None and found[0] == kind]
    if not wrong:
        return ok(f"{good} ({len(subject.rows)} rows)")
    row, token = wrong[0]
    said = "" if token is None else f"'{subject.word(token)}'"
    return error(bad(row, said, len(wrong)))


def _stop(subject: Subject) -> str:
    return f"'{subject.word(subject.template.stop)}'"


def stop_token_absent(subject: Subject) -> Finding:
    """After each answer stands a token that ends it."""
    return _judge(
        subject,
        "absent",
        "every answer is followed by a stop token",
        lambda row, said, count: (
            f"{count} of {len(subject.rows)} rows have no stop token after the answer, so that the model will not "
            f"learn to stop: {row.place}; render the data again with {_stop(subject)} after the answer (luthier data)"
        ),
    )


def stop_token_masked(subject: Subject) -> Finding:
    """The token that ends an answer is a label: masking padding by its id takes it out where pad and stop are one."""
    return _judge(
        subject,
        "masked",
        "the stop token is trained",
        lambda row, said, count: (
            f"{count} of {len(subject.rows)} rows have the stop token {said} but do not train it, so that the model "
            f"will not learn to stop: {row.place}"
            + (
                f"; {said} is also the padding token: give the tokenizer a padding token of its own"
                if subject.tokenizer.pad_token_id in subject.template.stop_ids
                else "; the answer's labels must include it: render the data again (luthier data)"
            )
        ),
    )


def stop_token_other(subject: Subject) -> Finding:
    """The token that ends an answer in training is one at which generation stops."""
    return _judge(
        subject,
        "other",
        f"answers end in {_stop(subject)}, where generation stops",
        lambda row, said, count: (
            f"{count} of {len(subject.rows)} rows end their answer in {said}, but generation stops at "
            f"{_stop(subject)}: {row.place}; make the tokenizer's eos_token the one that stands in the rows"
        ),
    )
