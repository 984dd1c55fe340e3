"""Is what is trained the answer, the whole answer, and nothing but the answer?"""

from __future__ import annotations

from typing import Literal

from luthier.core.records import Text, answer_text
from luthier.plan.checks.text import answers, as_tokenized, decoded, has_answer, in_words, is_cut, others, shares
from luthier.plan.finding import Finding, error, excerpt, ok, some, warning
from luthier.plan.subject import Row, Subject

Fault = Literal["outside", "template", "incomplete"]


def fault(subject: Subject, row: Row) -> Fault | None:
    """How the trained text differs from the answer of the record: more than it, or less.

    `outside`: text that the model is given is trained; `template`: only headers of the template are; `incomplete`:
    part of the answer is not trained.
    """
    if subject.rewritten or isinstance(row.record, Text) or not len(row.said) or not in_words(subject, row.record):
        return None
    trained = decoded(subject, row.said)
    wanted = "".join(as_tokenized(subject, text) for text in answers(subject, row.record))
    if not wanted or trained == wanted:
        return None
    if subject.data.train_on == "all":
        return None if as_tokenized(subject, answer_text(row.record)) in trained else "incomplete"
    if trained in wanted:
        return None if _keeps_the_last(subject, row, trained, wanted) else "incomplete"
    extra = trained
    for text in answers(subject, row.record):
        extra = extra.replace(as_tokenized(subject, text), "", 1)
    if any(shares(extra, as_tokenized(subject, text)) for text in others(subject, row.record)):
        return "outside"
    return "template" if wanted in trained else "incomplete"


def _keeps_the_last(subject: Subject, row: Row, trained: str, wanted: str) -> bool:
    """Whether only earlier answers are missing, from a conversation that was cut from the left to fit."""
    last = as_tokenized(subject, answer_text(row.record))
    return is_cut(subject, row) and wanted.endswith(trained) and trained.endswith(last)


def user_turns_trained(subject: Subject) -> Finding:
    """The trained tokens of each row, decoded, hold nothing of what the user says."""
    faults = [(row, fault(subject, row)) for row in subject.rows]
    wrong = [row for row, kind in faults if kind == "outside"]
    if wrong:
        text = subject.text(wrong[0].said[:40])
        return error(
            f"{len(wrong)} of {len(subject.rows)} rows train text that the model is given, not what it is to say: "
            f"{wrong[0].place} trains {excerpt(text)}; render the data again (luthier data), or write "
            "data.train_on: all if that is what you want"
        )
    headers = [row for row, kind in faults if kind == "template"]
    if headers:
        text = subject.text(headers[0].said[:12])
        return warning(
            f"{len(headers)} of {len(subject.rows)} rows train text of the template beside the answer: "
            f"{headers[0].place} trains {excerpt(text)}"
        )
    return ok(f"the trained tokens of {len(subject.rows)} rows say what their answers say")


def answer_truncated(subject: Subject) -> Finding:
    """The trained tokens of each row, decoded, hold the whole answer."""
    wrong = [row for row in subject.rows if fault(subject, row) == "incomplete"]
    if not wrong:
        return ok(f"the whole answer is trained in {len(subject.rows)} rows")
    last = subject.text(wrong[0].said[-12:])
    return error(
        f"{len(wrong)} of {len(subject.rows)} rows train only part of their answer: {wrong[0].place} ends at "
        f"{excerpt(last)}; let the prompt be cut instead (data.too_long: truncate), or raise model.context"
    )


def all_labels_masked(subject: Subject) -> Finding:
    """Each row that has an answer has at least one label."""
    wrong = [row for row in subject.rows if not len(row.said) and _should_train(subject, row)]
    if not wrong:
        return ok(f"{len(subject.rows)} rows have something to learn")
    return error(
        f"{len(wrong)} of {len(subject.rows)} rows have no label, so that nothing is learnt from them: "
        f"{some([row.place for row in wrong])}; look at data.train_on, and render the data again (luthier data)"
    )


def _should_train(subject: Subject, row: Row) -> bool:
    return (has_answer(row.record) or isinstance(row.record, Text)) and not is_cut(subject, row)


def prompt_fills_context(subject: Subject) -> Finding:
    """No prompt takes the whole context, or loses its end to make the row fit."""
    wrong = [row for row in subject.rows if prompt_only(subject, row)]
    if not wrong:
        longest = max((len(row.inputs) for row in subject.rows), default=0)
        return ok(f"the longest row takes {longest} of {subject.context} tokens and keeps its answer")
    return error(
        f"in {len(wrong)} of {len(subject.rows)} rows the prompt fills the context of {subject.context} tokens and "
        f"leaves no place for the answer: {some([row.place for row in wrong])}; remove them (data.too_long: remove) "
        "or cut prompts from the left (truncate)"
    )


def prompt_only(subject: Subject, row: Row) -> bool:
    """Whether a row was cut on the right so that, at most, its prompt is left."""
    if not is_cut(subject, row) or not has_answer(row.record) or subject.rewritten:
        return False
    if not subject.encoder_decoder:
        return not len(row.said)
    prompt = subject.template.prompt_ids(row.record)
    kept = row.inputs[:-1].tolist()  # a stop token may stand at the end
    return len(prompt) > len(row.inputs) and prompt[: len(kept)] == kept


def empty_answer(subject: Subject) -> Finding:
    """Every record has an answer that says something."""
    looked_at = 0
    wrong: list[str] = []
    for records in subject.splits.values():
        looked_at += len(records)
        wrong += [str(r.origin) for r in records if not isinstance(r, Text) and not answer_text(r).strip()]
    if not wrong:
        return ok(f"{looked_at} rows have an answer")
    return error(
        f"{len(wrong)} of {looked_at} rows have an empty answer, which teaches the model to say nothing: "
        f"{some(wrong)}; remove these rows, or name the column of the answer in data.columns"
    )
