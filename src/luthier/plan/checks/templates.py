"""Will the model meet at inference what it met in training?"""

from __future__ import annotations

import re

import numpy as np

from luthier.core.records import Conversation, Text
from luthier.plan.checks.answers import fault, prompt_only
from luthier.plan.checks.text import as_tokenized, decoded, is_cut
from luthier.plan.finding import Finding, error, excerpt, ok, some, warning
from luthier.plan.subject import Row, Subject

MARKER = re.compile(r"<\|[^|<>\s]+\|>")  # <|im_start|>, <|user|>: how chat templates write tokens of their own
TAIL = 16  # tokens of a prompt that was cut from the left which must still stand before the answer


def template_changed(subject: Subject) -> Finding:
    """The prompt as inference tokenises it is what stands before the answer in training."""
    now = subject.template.fingerprint
    if subject.rendered != now:
        return error(
            f"the rows were rendered with the template {subject.rendered[:12]}, but the model now has {now[:12]}: "
            "render the data again (luthier data), or put the tokenizer's files back"
        )
    looked_at = [row for row in subject.rows if _is_comparable(subject, row)]
    wrong = [row for row in looked_at if not _same_prompt(subject, row)]
    if not wrong:
        return ok(f"template {now[:12]}; inference gives {len(looked_at)} prompts as training does")
    row = wrong[0]
    trained, given = subject.text(row.inputs[:48]), subject.text(subject.template.prompt_ids(row.record)[:48])
    return error(
        f"{len(wrong)} of {len(looked_at)} rows give another prompt in training than at inference: {row.place} has "
        f"{excerpt(trained)} in training and {excerpt(given)} at inference; render the data again (luthier data)"
    )


def _is_comparable(subject: Subject, row: Row) -> bool:
    """Whether the row has a prompt, without a fault that a check of its own names."""
    has_prompt = not isinstance(row.record, Text) and not subject.rewritten
    named = _loses_system(subject, row) or prompt_only(subject, row) or any(_split_markers(subject, row))
    return has_prompt and not named


def _same_prompt(subject: Subject, row: Row) -> bool:
    given = _without(subject.template.prompt_ids(row.record), subject.bos)
    read = _without(_before_answer(subject, row, len(given)), subject.bos)
    if read == given or not given:
        return True
    tail = given[-TAIL:]  # of a prompt that was cut from the left, the end must be there
    return is_cut(subject, row) and read[-len(tail) :] == tail


def _before_answer(subject: Subject, row: Row, length: int) -> list[int]:
    """What the model reads before the answer: up to the first label, where the answer alone is trained."""
    if subject.encoder_decoder:
        return row.inputs.tolist()
    if subject.data.train_on == "answer" and len(row.said) and fault(subject, row) is None:
        return row.inputs[: row.trained[0]].tolist()
    begin = len(row.inputs) - len(_without(row.inputs.tolist(), subject.bos))
    return row.inputs[: begin + length].tolist()


def _without(tokens: list[int], first: int | None) -> list[int]:
    start = 0
    while start < len(tokens) and tokens[start] == first:
        start += 1
    return tokens[start:]


def system_prompt_lost(subject: Subject) -> Finding:
    """The system message of each row stands in what the model reads."""
    had = sum(bool(_system(subject, row)) for row in subject.rows)
    without = [row for row in subject.rows if _loses_system(subject, row)]
    cut = [row for row in without if is_cut(subject, row)]
    lost = [row for row in without if not is_cut(subject, row)]
    if lost:
        return error(
            f"{len(lost)} of {had} rows with a system message lose it in rendering: "
            f"{some([row.place for row in lost])}; put the message into the user's turn (data.prompt), or take a "
            "chat template that has the role 'system'"
        )
    if cut:
        return warning(
            f"{len(cut)} of {had} rows lose their system message to the context of {subject.context} tokens: "
            f"{some([row.place for row in cut])}; raise model.context or remove long rows (data.too_long: remove)"
        )
    return ok(f"{had} rows have a system message and keep it")


def _system(subject: Subject, row: Row) -> str:
    """The squeezed system message that the row should have."""
    own = ""
    if isinstance(row.record, Conversation):
        own = "".join(m.content for m in row.record.messages if m.role == "system")
    return "" if isinstance(row.record, Text) else as_tokenized(subject, own or subject.data.system or "")


def _loses_system(subject: Subject, row: Row) -> bool:
    system = _system(subject, row)
    return bool(system) and system not in decoded(subject, row.inputs)


def special_token_split(subject: Subject) -> Finding:
    """Every special token that stands in a row as text stands there as one token."""
    markers = _markers(subject)
    broken = [text for text in markers if text in _known(subject) and not _is_one(subject, text)]
    if broken:
        return error(
            f"the tokenizer splits {some([repr(text) for text in broken])} into pieces although it calls them "
            "special tokens: load its tokenizer.json whole, or add them with model.add_tokens"
        )
    split = [(row, texts) for row in subject.rows if (texts := _split_markers(subject, row))]
    if split:
        row, (text, *_) = split[0]
        return error(
            f"{len(split)} of {len(subject.rows)} rows hold {text!r} in pieces instead of as "
            f"one token: {row.place}; add it with model.add_tokens, or take the tokenizer that the template is for"
        )
    return ok(f"{len(markers)} special tokens stay whole")


def _known(subject: Subject) -> set[str]:
    return {*map(str, subject.tokenizer.all_special_tokens), *subject.added}


def _markers(subject: Subject) -> list[str]:
    """Special tokens, and what the chat template writes like one."""
    template = subject.tokenizer.chat_template if subject.data.chat else None
    return sorted({*_known(subject), *MARKER.findall(str(template or ""))})


def _is_one(subject: Subject, text: str) -> bool:
    return len(subject.tokenizer(text, add_special_tokens=False)["input_ids"]) == 1


def _split_markers(subject: Subject, row: Row) -> list[str]:
    """The markers that the row's text has more often than its tokens do, what people wrote not counted."""
    ids = np.concatenate([row.inputs, row.said]) if subject.encoder_decoder else row.inputs
    written = subject.text(ids)
    return [
        text
        for text in _markers(subject)
        if text in written and written.count(text) > _whole(subject, ids, text) + _typed(row, text)
    ]


def _whole(subject: Subject, ids: np.ndarray, text: str) -> int:
    """How often the marker stands there as one token."""
    token = subject.tokenizer.convert_tokens_to_ids(text)
    is_token = isinstance(token, int) and subject.word(token) == text  # else it is the unknown one
    return int((ids == token).sum()) if is_token else 0


def _typed(row: Row, text: str) -> int:
    """How often the record itself has the marker as text."""
    record = row.record
    if isinstance(record, Conversation):
        return sum(message.text.count(text) for message in record.messages)
    if isinstance(record, Text):
        return record.text.count(text)
    return record.prompt.count(text) + record.completion.count(text)


def added_token_untrained(subject: Subject) -> Finding:
    """Every token of `model.add_tokens` stands in a row, and every variant trains its embedding."""
    if not subject.added:
        return ok("no tokens are added")
    if subject.absent:
        return error(
            f"{some([repr(text) for text in subject.absent])} of model.add_tokens stands in no training row and "
            "would keep the meaning of an average token: use it in the data or the template, or do not add it"
        )
    if subject.untrained:
        return error(
            f"the variants {', '.join(subject.untrained)} leave the embeddings of added tokens as they are, the mean "
            "of the others: train them with the method full, or do not add tokens"
        )
    return ok(f"{len(subject.added)} added tokens stand in the rows and are trained")
