"""A chunk of rows as they were read -> what the stage keeps of them: bytes and numbers, ready to be appended.

The same chunk gives the same bytes in any process, so that several may work on the rows of one source.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from luthier.chat.template import template_for
from luthier.core.errors import UserError
from luthier.core.records import Conversation, Record, full_text, record_id, to_json
from luthier.core.shards import IGNORED, Example, line_of
from luthier.data.cells import Unusable
from luthier.data.convert import to_record
from luthier.data.layouts import View
from luthier.data.readers import BadRow, Row
from luthier.data.render import Renderer
from luthier.data.signatures import exact_key, signatures
from luthier.models.resolve import resolve
from luthier.models.tokenizers import load_tokenizer
from luthier.recipe.sections import DataSection

TOO_LONG = ""  # the reason of a row that is removed for its length, which is no rejection


@dataclass(frozen=True)
class Kit:
    """What turns rows into examples; `near`: near-duplicates are looked for."""

    render: Renderer
    near: bool


def kit_of(section: DataSection) -> Kit:
    """The tools that a recipe means: its tokenizer and template, and the context that rows must fit."""
    resolved = resolve(section.model)
    template = template_for(load_tokenizer(section.model), section.data, resolved.encoder_decoder)
    render = Renderer(template, resolved.context, section.data.too_long)
    return Kit(render, section.data.near_duplicates != "off")


@dataclass(frozen=True)
class Taken:
    """What became of a chunk: the rows kept, in their order, and the places in the chunk of those that are not.

    `tokens` are of each example the input and the labels; `sizes` (examples, 3) their lengths and how many tokens
    are trained; `pieces` (kept,) the examples of each row; `keys` (kept,) 16 bytes that copies share; `signatures`
    (kept, hashes) those of MinHash, without columns where nobody asks for them. `gone` are (place, why, record's id).
    """

    lines: bytes
    line_lengths: np.ndarray
    tokens: np.ndarray
    sizes: np.ndarray
    pieces: np.ndarray
    keys: np.ndarray
    groups: list[str | None]
    truncated: np.ndarray
    signatures: np.ndarray
    gone: list[tuple[int, str, str | None]]


@dataclass(frozen=True, slots=True)
class _Kept:
    record: Record
    examples: tuple[Example, ...]
    truncated: bool


def take(rows: Sequence[Row | BadRow], view: View | None, kit: Kit) -> Taken:
    """Render the rows, and say why where one cannot be."""
    kept: list[_Kept] = []
    gone: list[tuple[int, str, str | None]] = []
    for place, row in enumerate(rows):
        found = _take_row(row, view, kit)
        if isinstance(found, _Kept):
            kept.append(found)
        else:
            gone.append((place, *found))
    lines = [line_of(to_json(row.record)) for row in kept]
    examples = [example for row in kept for example in row.examples]
    parts = [ids for example in examples for ids in (example.input_ids, example.labels)]
    return Taken(
        lines=b"".join(lines),
        line_lengths=np.array([len(line) for line in lines], dtype=np.int32),
        tokens=np.concatenate([np.zeros(0, dtype=np.int32), *parts], dtype=np.int32, casting="unsafe"),
        sizes=np.array([_sizes(example) for example in examples], dtype=np.int32).reshape(-1, 3),
        pieces=np.array([len(row.examples) for row in kept], dtype=np.int32),
        keys=np.array([exact_key(_compared(row.record)) for row in kept], dtype="S16"),
        groups=[row.record.group for row in kept],
        truncated=np.array([row.truncated for row in kept], dtype=bool),
        signatures=signatures(full_text(row.record) for row in kept if kit.near),
        gone=gone,
    )


def _take_row(row: Row | BadRow, view: View | None, kit: Kit) -> _Kept | tuple[str, str | None]:
    """The row's record and examples, or why there are none and the id of the record that is too long."""
    if isinstance(row, BadRow) or view is None:
        return (row.reason if isinstance(row, BadRow) else "no layout"), None
    try:
        record = to_record(row, view)
        rendered = kit.render(record)
    except (Unusable, UserError) as error:  # the chat template, too, may refuse a conversation
        return str(error), None
    if not rendered.examples:
        return TOO_LONG, record_id(record)
    return _Kept(record, rendered.examples, rendered.truncated)


def _sizes(example: Example) -> tuple[int, int, int]:
    return len(example.input_ids), len(example.labels), int(np.count_nonzero(example.labels != IGNORED))


def _compared(record: Record) -> str:
    """The text by which copies are told: the tools count too, for with others the same words mean another thing."""
    tools = record.tools if isinstance(record, Conversation) else ()
    return "\n".join([full_text(record), *(json.dumps(tool, sort_keys=True) for tool in tools)])
