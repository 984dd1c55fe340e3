"""The traffic of a run as it lies in its database."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass, fields
from pathlib import Path

from luthier.core.errors import UserError
from luthier.monitor.traffic import Feedback, Shape, database, opened


@dataclass(frozen=True)
class Traffic:
    """Requests in the order of their time, ratings, and the spans (start, end) in which the server was up."""

    since: float
    until: float
    requests: list[Shape]
    feedback: list[Feedback]
    sessions: list[tuple[float, float]]

    @property
    def answered(self) -> list[Shape]:
        """The requests that got a whole answer."""
        return [shape for shape in self.requests if shape.status == 200]


def read_traffic(run: Path, since: float, until: float) -> Traffic:
    """What happened between two times (seconds since 1970); UserError where nothing was ever served.

    Texts stay where they are: nothing here needs them.
    """
    if not database(run).is_file():
        raise UserError(f"{run} has no traffic yet: `luthier serve {run}` serves it and records what is asked")
    columns = [field.name for field in fields(Shape) if field.name not in ("prompt", "answer")]
    window = "where time >= ? and time <= ? order by time"
    try:
        with opened(run) as connection:
            requests = connection.execute(f"select {', '.join(columns)} from requests {window}", (since, until))
            shapes = [Shape(*row) for row in requests]
            names = ", ".join(field.name for field in fields(Feedback))
            ratings = connection.execute(f"select {names} from feedback {window}", (since, until))
            feedback = [Feedback(*row) for row in ratings]
            spans = connection.execute(
                "select max(started, ?), min(seen, ?) from sessions where seen >= ? and started <= ? order by 1",
                (since, until, since, until),
            ).fetchall()
    except sqlite3.DatabaseError as error:
        raise UserError(
            f"{database(run)} is damaged ({error}): move it away, the next server makes a new one"
        ) from None
    return Traffic(since, until, shapes, feedback, spans)
