"""Short stories and scenes that teach manners: families of prose written as data.

A family in `families/stories.txt` or `families/manners.txt` is a title line `# ...`, slot lines
`name: values` and pieces of text, one a line; a piece that begins with `?` may be left out.
"""

import re
from dataclasses import dataclass, field
from functools import cache

from luthier.data.builtin.choices import Choices
from luthier.data.builtin.template import Draw, SlotList, Template, parse, parse_slot, polish, read, shared

_SLOT = re.compile(r"([a-z]\w*): (.*)")


@dataclass
class Prose:
    """One family of prose, parsed: pieces are (template, may be left out)."""

    title: str
    slots: dict[str, SlotList]
    pieces: list[tuple[Template, bool]] = field(default_factory=list)


@cache
def prose_families(file: str) -> list[Prose]:
    """The families of `families/<file>.txt`."""
    common = shared()
    found: list[Prose] = []
    for line in read(file):
        if line[0] == "#":
            found.append(Prose(line[1:].strip(), {k: SlotList(v, k) for k, v in common.values.items()}))
        elif slot := _SLOT.fullmatch(line):
            found[-1].slots[slot[1]] = parse_slot(slot[2], common.values)
        else:
            found[-1].pieces.append((parse(line.removeprefix("?"), common.phrases), line[0] == "?"))
    return found


def prose(family: Prose, choices: Choices) -> str:
    """One text of the family, a single paragraph."""
    draw = Draw(choices, family.slots)
    parts = [draw.render(piece) for piece, optional in family.pieces if not optional or choices.maybe(0.6)]
    return polish(" ".join(parts))


def story(choices: Choices) -> tuple[str, str]:
    """(text, family title) of one short story."""
    family = choices.pick(prose_families("stories"))
    return prose(family, choices), family.title


def manners(choices: Choices) -> tuple[str, str]:
    """(text, family titles) of two scenes that teach manners."""
    families = choices.sample(prose_families("manners"), 2)
    return "\n\n".join(prose(family, choices) for family in families), " + ".join(f.title for f in families)
