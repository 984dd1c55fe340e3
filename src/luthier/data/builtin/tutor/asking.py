"""A question in one of its wordings as a row, and an endless stream of rows with few questions asked twice."""

from collections.abc import Callable, Iterator, Sequence

from luthier.data.builtin.choices import Choices

TRIES = 40
"""How often a row is drawn again when its question was asked before; then it is asked again."""

Draw = Callable[[Choices], dict]


def ask(c: Choices, skill: str, item: str, wordings: Sequence[str], answer: str) -> dict:
    """A row {question, answer, skill, item}; `item` is what all questions about the same thing share."""
    return {"question": c.pick(wordings), "answer": answer, "skill": skill, "item": f"{skill}:{item}"}


def fresh(c: Choices, draw: Draw) -> Iterator[dict]:
    """Endless rows of `draw`; while there are new questions left, hardly any comes twice."""
    seen: set[str] = set()
    while True:
        row = draw(c)
        for _ in range(TRIES):
            if row["question"] not in seen:
                break
            row = draw(c)
        seen.add(row["question"])
        yield row
