"""General knowledge, history and everyday manners: questions about the corpus's facts, and about situations.

`families/asked.txt` asks about the tables of `families/facts.txt`; `families/everyday.txt` has its own answers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from luthier.data.builtin.choices import Choices
from luthier.data.builtin.facts import TABLES
from luthier.data.builtin.template import polish, read
from luthier.data.builtin.tutor.asking import ask, fresh


@dataclass(frozen=True)
class Asked:
    """What is asked about one thing: several wordings of the question, and the answer to each."""

    skill: str
    item: str
    wordings: tuple[str, ...]
    answer: str


def blocks(file: str) -> list[tuple[list[str], tuple[str, ...], str]]:
    """(heading, wordings, answer) of each `? wording | wording` and `= answer` below a `# a | b` of a family file."""
    found: list[tuple[list[str], tuple[str, ...], str]] = []
    heading: list[str] = []
    wordings: tuple[str, ...] = ()
    for line in read(file):
        mark, text = line[0], line[1:].strip()
        parts = [part.strip() for part in text.split("|")]
        if mark == "#":
            heading = parts
        elif mark == "?":
            wordings = tuple(parts)
        else:
            found.append((heading, wordings, text))
    return found


def _of_tables() -> Iterator[Asked]:
    """Each way of asking, of each row of its table."""
    tables = {table.name: table.rows for table in TABLES}
    for (table, skill, item), wordings, answer in blocks("asked"):
        for row in tables[table]:
            asked = tuple(polish(wording.format(*row)) for wording in wordings)
            yield Asked(skill, item.format(*row), asked, polish(answer.format(*row)))


def _of_situations() -> Iterator[Asked]:
    """The situations, and the questions written for one fact each; the answer is the item if none is given."""
    for (skill, *item), wordings, answer in blocks("everyday"):
        yield Asked(skill, item[0] if item else answer, wordings, answer)


@cache
def everything() -> list[tuple[Asked, str]]:
    """Each thing asked, with each of its wordings."""
    return [(asked, wording) for asked in (*_of_tables(), *_of_situations()) for wording in asked.wordings]


def knowledge(c: Choices) -> dict:
    """One question; each is equally likely."""
    asked, wording = c.pick(everything())
    return ask(c, asked.skill, asked.item, (wording,), asked.answer)


def knowledge_rows(choices: Choices) -> Iterator[dict]:
    """Endless rows {question, answer, skill, item} of `tutor-knowledge`."""
    return fresh(choices, knowledge)
