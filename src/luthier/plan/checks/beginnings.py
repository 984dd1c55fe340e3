"""Does every row begin as the model was pretrained to begin: with one BOS token, or none?"""

from __future__ import annotations

from luthier.plan.checks.text import is_cut
from luthier.plan.finding import Finding, error, ok, some, warning
from luthier.plan.subject import Row, Subject


def bos_doubled(subject: Subject) -> Finding:
    """No row begins with two BOS tokens."""
    bos = subject.bos
    wrong = [row for row in subject.rows if bos is not None and _count(row, bos) > 1]
    if not wrong:
        return ok(f"no row of {len(subject.rows)} begins with BOS twice")
    return error(
        f"{len(wrong)} of {len(subject.rows)} rows begin with {subject.tokenizer.bos_token!r} twice, which the model "
        f"has never seen: {some([row.place for row in wrong])}; the prompt writes it and the tokenizer adds it: take "
        "it out of data.prompt or the chat template"
    )


def bos_missing(subject: Subject) -> Finding:
    """Where tokenizer or template put BOS before a text, every row begins with it."""
    tokenizer, bos = subject.tokenizer, subject.bos
    if bos is None or subject.encoder_decoder:
        return ok("this model has no BOS token")
    bare = [row for row in subject.rows if not _count(row, bos) and not is_cut(subject, row)]
    places = some([row.place for row in bare])
    if bare and _is_expected(subject):
        return error(
            f"{len(bare)} of {len(subject.rows)} rows do not begin with {tokenizer.bos_token!r}, with which the "
            f"model was pretrained: {places}; render them with the tokenizer's special tokens"
        )
    if bare and _has_its_own(subject) and not subject.is_chat:
        return warning(
            f"the tokenizer has the BOS token {tokenizer.bos_token!r} but does not add it: {places}; if the model "
            "was pretrained with it, set add_bos_token in tokenizer_config.json"
        )
    return ok(f"{len(subject.rows)} rows begin as the tokenizer begins a text")


def _count(row: Row, bos: int) -> int:
    """How many BOS tokens the row begins with."""
    count = 0
    while count < len(row.inputs) and row.inputs[count] == bos:
        count += 1
    return count


def _is_expected(subject: Subject) -> bool:
    """Whether the chat template (for a chat) or else the tokenizer puts BOS at the beginning."""
    tokenizer = subject.tokenizer
    if subject.is_chat:
        chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
        return str(tokenizer.apply_chat_template(chat, tokenize=False)).startswith(str(tokenizer.bos_token))
    return tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id


def _has_its_own(subject: Subject) -> bool:
    """Whether BOS is a token of its own, as where models are pretrained with it, not EOS or padding as well."""
    tokenizer = subject.tokenizer
    return tokenizer.bos_token_id not in (tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.cls_token_id)
