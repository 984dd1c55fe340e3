"""From the recipe's sources to rendered rows: read, laid out, rendered, each row accounted for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any

from luthier.core.errors import UserError, did_you_mean
from luthier.core.events import emit
from luthier.core.progress import track
from luthier.core.records import Conversation, Record, full_text, record_id
from luthier.data.convert import Unusable, to_record
from luthier.data.layouts import View, view_of
from luthier.data.ledger import Ledger
from luthier.data.readers import BadRow, Row, entry_of, read, start_rows
from luthier.data.render import Renderer
from luthier.data.spool import Spool
from luthier.recipe.schema import Data, Source

LOOKED_AT = 100  # rows whose columns tell the layout
POOL = "pool"  # the rows that are shared out; the others go where the recipe sends their source
GENERAL = "general"  # running text, whatever the layout of the rows to learn from


@dataclass(frozen=True)
class Input:
    """A source of the recipe and where its rows go: to the pool, or whole to one split."""

    name: str
    source: Source
    destination: str


@dataclass
class Intake:
    """What came in: the spool's rows by destination, and how each source was read."""

    rows: dict[str, list[int]] = field(default_factory=dict)
    source: list[int] = field(default_factory=list)  # of each spooled row, its index in `inputs`
    views: dict[str, View] = field(default_factory=dict)


def inputs_of(data: Data) -> list[Input]:
    """The recipe's sources, those named in `split` sent to their split; others written there are sources too."""
    asked = {name: size for name, size in _sizes(data).items() if isinstance(size, str)}
    for split, source in asked.items():
        twice = next((other for other in asked if other != split and asked[other] == source), None)
        if twice:
            raise UserError(f"data.split: {twice} and {split} are both '{source}': give each rows of its own")
    destination = {source: split for split, source in asked.items() if source in data.sources}
    inputs = [Input(name, source, destination.get(name, POOL)) for name, source in data.sources.items()]
    inputs += [
        Input(f"split.{split}", Source(source=source), split)
        for split, source in asked.items()
        if source not in data.sources
    ]
    if all(i.destination != POOL for i in inputs):
        raise UserError("data.split sends every source to validation, test or general: name a source to train on")
    return inputs


def pool_sizes(data: Data) -> dict[str, int | float]:
    """The splits that take their rows from the pool, the test first."""
    return {name: size for name, size in _sizes(data).items() if not isinstance(size, str)}


def _sizes(data: Data) -> dict[str, int | float | str]:
    general = {GENERAL: data.split.general} if data.split.general is not None else {}
    return {"test": data.split.test, "validation": data.split.validation, **general}


def take_in(data: Data, seed: int, render: Renderer, ledger: Ledger, spool: Spool) -> Intake:
    """Read every source into the spool."""
    intake = Intake({POOL: []})
    inputs = inputs_of(data)
    for index, source in enumerate(inputs):
        rows = _limited(source, seed, ledger)
        looked_at = list(islice(rows, LOOKED_AT))
        view = _view(data, source, looked_at)
        if view is not None:
            intake.views[source.name] = view
        kept = intake.rows.setdefault(source.destination, [])
        for row in track(chain(looked_at, rows), f"reading {source.name}"):
            if _take_row(row, view, render, ledger, spool, intake):
                kept.append(len(spool) - 1)
                intake.source.append(index)
    _all_columns_used(data, intake.views)
    spool.close()
    return intake


def _limited(source: Input, seed: int, ledger: Ledger) -> Iterator[Row | BadRow]:
    """The source's first rows; those beyond its `rows` are counted as removed."""
    limit = start_rows(source.source.source, source.source.rows)
    for number, row in enumerate(read(source.name, source.source.source, seed, limit), 1):
        ledger.came(source.name)
        if limit is not None and number > limit:
            ledger.remove("rows", row.origin, None)
        else:
            yield row


def _view(data: Data, source: Input, rows: Iterable[Row | BadRow]) -> View | None:
    """How the source is read, said aloud; None where no row could be read at all."""
    good = [row for row in rows if isinstance(row, Row)]
    if not good:
        return None
    seen: dict[str, Any] = {}  # each column with the first value that says something
    for row in good:
        seen |= {column: value for column, value in row.values.items() if not seen.get(column)}
    place = good[0].origin.file
    if source.destination == GENERAL:
        data = data.model_copy(update={"layout": "text", "prompt": None})
    view = view_of(data, seen, place, entry_of(source.source.source))
    by = data.split.by if source.destination == POOL and any(pool_sizes(data).values()) else None
    if by is not None and by not in seen:
        raise UserError(f"data.split.by: {place} has no column '{by}': {did_you_mean(by, seen)}")
    columns = {name: "+".join(own) for name, own in view.columns.items()}
    emit("data.layout", f"{place}: read as {view.layout}, because {view.why}", layout=view.layout, columns=columns)
    return replace(view, group=by)


def _take_row(
    row: Row | BadRow, view: View | None, render: Renderer, ledger: Ledger, spool: Spool, intake: Intake
) -> bool:
    """Spool one row, or enter in the ledger why not."""
    if isinstance(row, BadRow) or view is None:
        reason, raw = (row.reason, row.raw) if isinstance(row, BadRow) else ("no layout", row.values)
        ledger.reject(row.origin, reason, raw)
        return False
    try:
        record = to_record(row, view)
        rendered = render(record)
    except (Unusable, UserError) as error:  # the chat template, too, may refuse a conversation
        ledger.reject(row.origin, str(error), dict(row.values))
        return False
    if not rendered.examples:
        ledger.remove("too_long", row.origin, record_id(record))
        return False
    spool.add(record, _compared(record), rendered.examples, rendered.truncated)
    return True


def _compared(record: Record) -> str:
    """The text by which copies are told: the tools count too, for with others the same words mean another thing."""
    tools = record.tools if isinstance(record, Conversation) else ()
    return "\n".join([full_text(record), *(json.dumps(tool, sort_keys=True) for tool in tools)])


def _all_columns_used(data: Data, views: dict[str, View]) -> None:
    """Refuse a mapped column that no source has or that no source's layout reads: it would have no effect."""
    used = {name for view in views.values() for name in view.columns}
    for name, column in data.columns.items():
        if views and name not in used:
            layouts = " and ".join(sorted({view.layout for view in views.values()}))
            raise UserError(
                f"data.columns.{name} = {column}: the layout {layouts} reads no '{name}': take it out, or "
                "choose another data.layout"
            )
        if views and name != column and all(view.columns.get(name) in (None, (name,)) for view in views.values()):
            raise UserError(
                f"data.columns.{name}: no source has a column '{column}', only '{name}' itself: write a column that "
                f"is there, or take data.columns.{name} out"
            )
