"""A file of prompts in, a line of JSON for each answer out, in their order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from luthier.core.errors import UserError
from luthier.core.progress import bar
from luthier.core.records import Message
from luthier.data.readers.decode import lines
from luthier.data.readers.json_rows import read_jsonl
from luthier.data.readers.row import Bad
from luthier.generation.engine import Engine, Ticket
from luthier.generation.prompts import Prompts
from luthier.generation.request import Request, Sampling

AHEAD = 64  # requests that wait at most, so that a long file takes no memory


@dataclass(frozen=True)
class Question:
    """A row of the file: its number from 1, what stands there, and the ids that the model is given."""

    row: int
    values: Mapping[str, Any]
    ids: tuple[int, ...]


def read_questions(path: Path, prompts: Prompts, check: Callable[[Sequence[int]], object]) -> list[Question]:
    """All rows of a .jsonl file, or the lines of any other as prompts; lines of nothing but spaces are none.

    A row has `messages`, or the columns of the recipe's `data.prompt`, or `prompt`. Errors: UserError, naming the
    row, before anything is generated; `check` raises it for ids that the model cannot read.
    """
    if not path.is_file():
        raise UserError(f"no file at {path}: give a .jsonl file with `prompt` or `messages`, or a text of one a line")
    questions = []
    for row, values in read_jsonl(path) if path.suffix == ".jsonl" else _text_lines(path):
        try:
            if isinstance(values, Bad):
                raise UserError(values.reason)
            ids = _ids(values, prompts)
            check(ids)
        except UserError as error:
            raise UserError(f"{path} row {row}: {error}") from None
        questions.append(Question(row, values, tuple(ids)))
    return questions


def answer(engine: Engine, model: str, questions: Sequence[Question], sampling: Sampling) -> Iterator[dict[str, Any]]:
    """Each row with its `answer`, `model`, `tokens` and `finish`, in order, while the engine works ahead."""
    pending: deque[tuple[Question, Ticket]] = deque()
    left = iter(questions)
    tokens = 0
    with bar("answering", len(questions)) as progress:
        while True:
            while len(pending) < AHEAD and (question := next(left, None)) is not None:
                pending.append((question, engine.submit(Request(question.ids, sampling, model))))
            if not pending:
                return
            question, ticket = pending.popleft()
            pieces = list(ticket)
            count = sum(piece.tokens for piece in pieces)
            tokens += count
            said = "".join(piece.text for piece in pieces).strip()
            finish = pieces[-1].finish
            progress.advance(note=f"{tokens:,} tokens")
            yield {**question.values, "answer": said, "model": model, "tokens": count, "finish": finish}


def _text_lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(lines(path), 1):
        if line.strip():
            yield number, {"prompt": line.rstrip("\r\n")}


def _ids(values: Mapping[str, Any], prompts: Prompts) -> list[int]:
    if "messages" in values:
        return prompts.chat([_message(entry) for entry in _list(values["messages"])])
    columns = prompts.format.columns if prompts.format else ()
    if columns and all(isinstance(values.get(column), str) for column in columns):
        return prompts.row({column: values[column] for column in columns})
    if not isinstance(values.get("prompt"), str):
        wanted = f"`messages`, `prompt` or {', '.join(columns)}" if columns else "`messages` or `prompt`"
        raise UserError(f"nothing to ask: write {wanted}; the row has {', '.join(values) or 'no columns'}")
    return prompts.chat([Message("user", values["prompt"])])


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UserError('messages must be a list such as [{"role": "user", "content": "Hello"}]')
    return value


def _message(entry: Any) -> Message:
    if not isinstance(entry, dict) or not all(isinstance(entry.get(key), str) for key in ("role", "content")):
        raise UserError('a message is {"role": "user", "content": "Hello"}; the roles are system, user and assistant')
    return Message(entry["role"], entry["content"])
