"""Two-person dialogues with summaries, from scenario families written as data in `families/*.txt`.

A family has a protagonist P and another person Q; who speaks first is #Person1#. Its lines:

    # title | register        register: s service, f friends, h home, w work, n neighbours and strangers
    slot: values              see `template`
    P: words   Q: words       the turns; two neighbouring turns of one speaker become one
    ?Q: words  ?P: words      turns that may be left out (neighbouring ones together)
    = clause                  the head of the summary (several lines: alternatives), no full stop
    > mood                    an outcome: + good for P, - bad for P, = neither; its turns follow
    : clause                  how the summary tells this outcome (several lines: alternatives)

Openings, asides and closings are shared by all families of a register; common words have shared synonyms.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

from luthier.data.builtin.choices import Choices
from luthier.data.builtin.recap import spoken
from luthier.data.builtin.template import Draw, SlotList, Template, parse, parse_slot, polish, read, shared

TRAINING = (
    "shop",
    "service",
    "school",
    "travel",
    "health",
    "home",
    "family",
    "work",
    "office",
    "food",
    "hobby",
    "money",
    "neighbours",
    "animals",
    "technology",
    "town",
    "friends",
    "events",
)
OPEN = ("errands",)
HELD_OUT = ("heldout",)
OPEN_SHARE = 0.5

SPOKEN = {
    "could you please": "[could you please|can you please|would you please]",
    "could you": "[could you|can you|would you]",
    "I would like to": "[I'd like to|I would like to|I want to]",
    "I think": "[I think|I believe|I guess]",
    "because": "[because|because|since]",
    "how about": "[how about|what about]",
    "maybe": "[maybe|perhaps]",
    "I am afraid": "[I'm afraid|I'm sorry, but|unfortunately]",
    "of course": "[of course|certainly|sure]",
    "I can't": "[I can't|I cannot]",
}
TOLD = {
    "because": "[because|because|since|as]",
    "because of": "because of",
    "asks Q to": "[asks Q to|asks Q to|wants Q to|would like Q to]",
    "asks P to": "[asks P to|asks P to|wants P to|would like P to]",
    "wants to": "[wants to|wants to|would like to]",
    "agrees to": "[agrees to|is willing to|promises to]",
    "offers to": "[offers to|is ready to]",
    "advises P to": "[advises P to|advises P to|tells P to]",
    "cannot": "[cannot|can't|is not able to]",
    "complains that": "[complains that|complains to Q that|is unhappy that]",
    "tells Q that": "[tells Q that|tells Q|says that|informs Q that]",
    "tells P that": "[tells P that|tells P|says that|informs P that]",
    "decides to": "[decides to|chooses to]",
    "they agree to": "[they agree to|they decide to|P and Q agree to|P and Q decide to]",
    "refuses": "[refuses|says no]",
}
ADDRESSED = {
    "P complains that": "P complains to Q that",
    "P asks": "P asks Q",
    "P says that": "P tells Q that",
    "P says": "P tells Q that",
}
UNDERSTOOD = ("So", "If I understand you,", "In other words,", "Just to be sure:", "I see:", "You mean")
MEANT = ("What I mean is that", "I mean,", "You see,", "In other words,", "As I said,", "It's like this:")
SETTLED = ("So", "Then", "All right, so", "That means", "In short,", "Let me say it again:")
YES = ("Yes.", "Exactly.", "That's right.", "Yes, that's it.", "That's how it is.", "Right.")
_SPOKEN = re.compile(r"\b(" + "|".join(sorted(map(re.escape, SPOKEN), key=len, reverse=True)) + r")\b")
_TOLD = re.compile(r"\b(" + "|".join(sorted(map(re.escape, TOLD), key=len, reverse=True)) + r")\b")
_PERSON = re.compile(r"\b[PQ]\b")

Line = tuple[str, Template, bool]  # speaker, words, may be left out
Turn = tuple[str, str]  # speaker, words


@dataclass
class Outcome:
    """One way a scenario may end: its mood, its last turns and how the summary tells it."""

    mood: str
    lines: list[Line] = field(default_factory=list)
    told: list[Template] = field(default_factory=list)


@dataclass
class Family:
    """One hidden scenario, parsed."""

    title: str
    register: str
    slots: dict[str, SlotList] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    heads: list[Template] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)


def parse_family(lines: list[str]) -> Family:
    """The family written in `lines`, whose first is its title."""
    common = shared()
    title, register = lines[0][1:].split("|")
    family = Family(title.strip(), register.strip())
    for line in lines[1:]:
        if line[0] == ">":
            family.outcomes.append(Outcome(line[1:].strip()))
        elif line[0] in "=:":
            told = parse(_TOLD.sub(lambda m: TOLD[m[0]], line[1:].strip()), common.phrases)
            (family.outcomes[-1].told if line[0] == ":" else family.heads).append(told)
        elif turn := re.match(r"(\??)([PQ]): *(.*)", line):
            words = parse(_SPOKEN.sub(lambda m: SPOKEN[m[0]], turn[3]), common.phrases)
            into = family.outcomes[-1].lines if family.outcomes else family.lines
            into.append((turn[2], words, bool(turn[1])))
        else:
            name, values = line.split(":", 1)
            family.slots[name.strip()] = parse_slot(values.strip(), common.values)
    family.slots = {
        **{name: SlotList(values, name) for name, values in common.values.items()},
        **family.slots,
    }
    return family


@cache
def families(files: tuple[str, ...] = TRAINING) -> list[Family]:
    """All families of these files."""
    found = []
    for name in files:
        block: list[str] = []
        for line in [*read(name), "#"]:
            if line.startswith("#") and block:
                found.append(parse_family(block))
                block = []
            block.append(line)
    return found


@cache
def _exchanges(file: str) -> dict[str, list[list[Line]]]:
    """Openings, asides or closings by key: each a few turns, written `P: words // Q: words`."""
    found: dict[str, list[list[Line]]] = {}
    for line in read(file):
        key, text = line.split(" ", 1)
        turns = [turn.strip().split(":", 1) for turn in text.split("//")]
        lines = [(who, parse(words.strip(), shared().phrases), False) for who, words in turns]
        found.setdefault(key, []).append(lines)
    return found


def _speak(draw: Draw, lines: list[Line]) -> list[Turn]:
    """The turns as (speaker, words); optional neighbours are kept or left out together."""
    turns, kept, before = [], True, False
    for who, words, optional in lines:
        if optional and not before:
            kept = draw.choices.maybe(0.6)
        before = optional
        if kept or not optional:
            turns.append((who, draw.render(words).strip()))
    return turns


def _merge(turns: list[Turn]) -> list[Turn]:
    """The turns with neighbours of one speaker joined."""
    merged: list[Turn] = []
    for who, words in turns:
        if merged and merged[-1][0] == who:
            merged[-1] = (who, f"{merged[-1][1]} {words}")
        else:
            merged.append((who, words))
    return merged


def _address(head: str, told: str) -> str:
    """The head, changed where needed so that the summary names both P and Q."""
    if {"P", "Q"} <= set(_PERSON.findall(f"{head} {told}")):
        return head
    for said, said_to_q in ADDRESSED.items():
        if head.startswith(said):
            return said_to_q + head.removeprefix(said)
    return f"Q tells P that {head}" if head.startswith("Q") else f"P tells Q that {head}"


def _summary(draw: Draw, family: Family, outcome: Outcome) -> str:
    """Head and outcome as two sentences, or as one when both are short."""
    head = draw.render(draw.choices.pick(family.heads))
    told = draw.render(draw.choices.pick(outcome.told))
    head = _address(head, told)
    joinable = len(head) + len(told) < 150 and not re.search(r" (but|and) ", head + told)
    if joinable and draw.choices.maybe(0.5):
        return f"{head}, {'but' if outcome.mood == '-' else 'and'} {told}."
    return f"{head}. {told}."


def _words(turns: list[Turn]) -> int:
    return sum(words.count(" ") + 1 for _, words in turns)


def _exchange(draw: Draw, file: str, key: str, opened_by: str = "PQ", closed_by: str = "PQ") -> list[Turn]:
    """One shared exchange of that key that is opened and closed by the right person."""
    fitting = [lines for lines in _exchanges(file)[key] if lines[0][0] in opened_by and lines[-1][0] in closed_by]
    return _speak(draw, draw.choices.pick(fitting))


def _before(draw: Draw, family: Family, core: list[Turn], words: int) -> list[Turn]:
    """Greeting, small talk and a lead to the matter: the shorter the core, the likelier."""
    turns = []
    first = core[0][0]
    if draw.choices.maybe(0.95 if words < 55 else 0.7):
        turns = _exchange(draw, "openings", family.register, closed_by="P" if first == "Q" else "PQ")
    if first == "P" and draw.choices.maybe(0.8 if words < 55 else 0.4):
        turns += _exchange(draw, "asides", f"lead.{family.register}")
    return turns


def _between(draw: Draw, core: list[Turn], end: list[Turn]) -> list[Turn]:
    """An exchange between core and outcome, where it fits: never after a question of Q."""
    who, words = core[-1]
    key = f"{who}{'?' if words.endswith('?') else '.'}"
    if end[0][0] == "Q" and key != "Q?" and draw.choices.maybe(0.4):
        return _exchange(draw, "asides", key)
    return []


def _recap(draw: Draw, leads: Sequence[str], clause: str, speaker: str) -> list[Turn]:
    """The speaker says a clause of a summary over again, and the other one says yes."""
    told = spoken(clause, speaker)
    other = "P" if speaker == "Q" else "Q"
    return [(speaker, f"{draw.choices.pick(leads)} {told}."), (other, draw.choices.pick(YES))]


def _first_recap(draw: Draw, head: str, core: list[Turn], end: list[Turn]) -> list[Turn]:
    """What it is all about, said by Q to P or by P, where it does not stand between a question and its answer."""
    last, words = core[-1]
    if last == "P":
        return _recap(draw, UNDERSTOOD, head, "Q")
    if words.endswith("?"):
        return []
    return _recap(draw, MEANT, head, "P")[: 1 if end[0][0] == "Q" else 2]


def _after(draw: Draw, family: Family, outcome: Outcome, turns: list[Turn]) -> list[Turn]:
    """A last remark of Q, a change of subject, a farewell: the likelier, the shorter the dialogue so far."""
    words, added = _words(turns), []
    last, said = turns[-1]
    if last == "Q" and not said.endswith("?") and draw.choices.maybe(0.8 if words < 60 else 0.3):
        added += _exchange(draw, "asides", f"tail{outcome.mood}")
    other = "P" if last == "Q" else "Q"
    if family.register != "s" and words < 60 and len(turns) < 8 and draw.choices.maybe(0.6):
        added += _exchange(draw, "asides", f"talk.{other}")
    if draw.choices.maybe(0.9 if words < 65 else 0.5):
        added += _exchange(draw, "closings", f"{family.register}{other}{outcome.mood}")
    return added


def dialogue(family: Family, choices: Choices) -> tuple[str, str]:
    """A (dialogue, summary) pair of the family, with #Person1# the one who speaks first."""
    draw = Draw(choices, family.slots)
    outcome = choices.pick(family.outcomes)
    core, end = _speak(draw, family.lines), _speak(draw, outcome.lines)
    core += _between(draw, core, end)
    head, told = (draw.render(choices.pick(clauses)) for clauses in (family.heads, outcome.told))
    turns = _before(draw, family, core, _words(core + end)) + core
    if choices.maybe(0.85):
        turns += _first_recap(draw, head, core, end)
    turns = _merge(turns + end)
    if choices.maybe(0.85) and not turns[-1][1].endswith("?"):
        turns = _merge(turns + _recap(draw, SETTLED, told, "P" if turns[-1][0] == "Q" else "Q"))
    turns += _after(draw, family, outcome, turns)
    turns = _merge(turns)
    first = turns[0][0]
    person = {who: "#Person1#" if who == first else "#Person2#" for who in "PQ"}
    text = "\n".join(f"{person[who]}: {words}" for who, words in turns)
    summary = _PERSON.sub(lambda m: person[m[0]], _summary(draw, family, outcome))
    return polish(text), polish(summary)


def pick_family(choices: Choices) -> Family:
    """A training family; OPEN_SHARE of them are open."""
    return choices.pick(families(OPEN if choices.maybe(OPEN_SHARE) else TRAINING))


def dialogue_rows(choices: Choices, held_out: bool = False) -> Iterator[dict]:
    """Endless rows {dialogue, summary, scenario}."""
    while True:
        family = choices.pick(families(HELD_OUT)) if held_out else pick_family(choices)
        text, summary = dialogue(family, choices)
        yield {"dialogue": text, "summary": summary, "scenario": family.title}
