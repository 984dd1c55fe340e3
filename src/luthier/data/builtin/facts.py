"""General knowledge: true facts from tables, several to a document."""

from dataclasses import dataclass, field

from luthier.data.builtin.choices import Choices
from luthier.data.builtin.template import polish, read


@dataclass
class Table:
    """Facts of one shape: phrasings with {0}, {1} ... and rows of fields."""

    name: str
    phrasings: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)


def _tables() -> list[Table]:
    """The tables of `families/facts.txt`."""
    found: list[Table] = []
    for line in read("facts"):
        if line[0] == "#":
            found.append(Table(line[1:].strip()))
        elif line[0] == "=":
            found[-1].phrasings.append(line[1:].strip())
        else:
            found[-1].rows += [[cell.strip() for cell in row.split(",")] for row in line.split(";")]
    return found


TABLES = _tables()
FACTS = [(table, row) for table in TABLES for row in table.rows]


def general_knowledge(c: Choices) -> tuple[str, str]:
    """(text, table or "mixed") of one document of four to eight facts: of one table, or of several."""
    count = c.number(4, 8)
    if c.maybe():
        table = c.pick([table for table in TABLES if len(table.rows) >= 10])
        told, family = [(table, row) for row in c.sample(table.rows, count)], table.name
    else:
        told, family = c.sample(FACTS, count), "mixed"
    lines = [c.pick(table.phrasings).format(*row) for table, row in told]
    return polish(c.pick((" ", "\n")).join(lines)), family
