"""The template language in which families of documents are written as data.

    [a|b|c]      one alternative, drawn anew at each use; may be nested, may be empty
    {slot}       the value of a slot, drawn once per document
    {slot'}      its second form (values are written `first form ~ second form`), {slot''} its third ...
    {slot+5}     a numeric slot plus five
    <phrase>     a shared list of phrases, drawn anew at each use

A slot is defined as a list of values `a | b ~ b2 | c`, a shared list `@name`, or a range `2..9`. Two slots of
one document that refer to the same shared list never take the same value.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.resources import files

from luthier.data.builtin.choices import Choices

Template = tuple  # of str, Slot, or a list of alternative Templates
Value = tuple  # the forms of one slot value, each a Template, or the one number of a numeric slot


@dataclass(frozen=True)
class Slot:
    """A place where the value of a slot goes: which form, or which number added to it."""

    name: str
    form: int
    plus: int


@dataclass(frozen=True)
class SlotList:
    """The values a slot may take: a range of numbers, or values from a (possibly shared) list."""

    values: Sequence[Value] | range
    shared: str = ""


@dataclass
class Draw:
    """What one document has drawn so far."""

    choices: Choices
    slots: Mapping[str, SlotList]
    values: dict[str, Value] = field(default_factory=dict)

    def value(self, name: str) -> Value:
        """The value of a slot, drawn when it is first needed."""
        if name not in self.values:
            slot = self.slots[name]
            if isinstance(slot.values, range):
                self.values[name] = (self.choices.pick(slot.values),)
            elif slot.shared:
                taken = {id(value) for value in self.values.values()}
                self.values[name] = self.choices.pick([v for v in slot.values if id(v) not in taken])
            else:
                self.values[name] = self.choices.pick(slot.values)
        return self.values[name]

    def render(self, template: Template) -> str:
        """The text of a template, before `polish`."""
        out = []
        for part in template:
            if type(part) is str:
                out.append(part)
            elif type(part) is list:
                out.append(self.render(self.choices.pick(part)))
            else:
                value = self.value(part.name)
                if type(value[0]) is int:
                    out.append(str(value[0] + part.plus))
                else:
                    out.append(self.render(value[min(part.form, len(value) - 1)]))
        return "".join(out)


_TOKEN = re.compile(r"([\[\]|]|\{\w+(?:[+-]\d+)?'*\}|<\w+>)")
_SLOT = re.compile(r"\{(\w+?)([+-]\d+)?('*)\}")


def parse(text: str, phrases: Mapping[str, list[Template]] | None = None) -> Template:
    """The template written in `text`; `phrases` are the shared lists that <name> may call."""
    stack: list[list[list]] = [[[]]]
    for token in filter(None, _TOKEN.split(text)):
        if token == "[":
            stack.append([[]])
        elif token == "]" and len(stack) > 1:
            options = stack.pop()
            stack[-1][-1].append([tuple(option) for option in options])
        elif token == "|" and len(stack) > 1:
            stack[-1].append([])
        elif slot := _SLOT.fullmatch(token):
            stack[-1][-1].append(Slot(slot[1], len(slot[3]), int(slot[2] or 0)))
        elif token[0] == "<" and token[-1] == ">":
            stack[-1][-1].append((phrases or {})[token[1:-1]])
        elif token in "[]|":
            raise ValueError(f"stray {token!r} in template: {text}")
        else:
            stack[-1][-1].append(token)
    if len(stack) > 1:
        raise ValueError(f"missing ']' in template: {text}")
    return tuple(stack[0][0])


def split(text: str) -> list[str]:
    """The alternatives `a | b | c` of a definition: `|` inside brackets does not count."""
    parts, depth = [""], 0
    for character in text:
        depth += (character == "[") - (character == "]")
        if character == "|" and not depth:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def parse_slot(text: str, shared: Mapping[str, Sequence[Value] | range]) -> SlotList:
    """The slot defined by `a | b ~ b2`, `@list` or `2..9`."""
    if text.startswith("@"):
        return SlotList(shared[text[1:]], shared=text[1:])
    if numbers := re.fullmatch(r"(\d+)\.\.(\d+)", text):
        return SlotList(range(int(numbers[1]), int(numbers[2]) + 1))
    return SlotList([tuple(parse(form.strip()) for form in value.split("~")) for value in split(text)])


@dataclass(frozen=True)
class Shared:
    """What all families share: value lists (`name: ...`) and phrase lists (`<name>: ...`)."""

    values: dict[str, Sequence[Value] | range]
    phrases: dict[str, list[Template]]


def read(name: str) -> list[str]:
    """The lines of a family file, without blank lines and comments (`% ...`)."""
    text = (files("luthier.data.builtin") / "families" / f"{name}.txt").read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("%")]


def table(name: str, heading: str) -> list[list[str]]:
    """The groups of words (`a, b; c, d`) under one heading (`# ...`) of a family file."""
    lines = read(name)
    start = lines.index(f"# {heading}") + 1
    stop = next((i for i in range(start, len(lines)) if lines[i].startswith("#")), len(lines))
    return [[word.strip() for word in group.split(",")] for line in lines[start:stop] for group in line.split(";")]


@lru_cache(maxsize=1)
def shared() -> Shared:
    """The shared lists of `families/shared.txt`; a phrase list may call those written above it."""
    values: dict[str, Sequence[Value] | range] = {}
    phrases: dict[str, list[Template]] = {}
    for line in read("shared"):
        name, text = line.split(":", 1)
        if name.startswith("<"):
            phrases[name[1:-1]] = [parse(option, phrases) for option in split(text)]
        else:
            values[name] = parse_slot(text.strip(), values).values
    return Shared(values, phrases)


_ARTICLE = re.compile(r"\b([Aa]) (?=[aeiouAEIO8]|11\b|18\b|hour|honest|Hungar)(?!uni|use|usu|eu|one|once|Uni|Eu)")
_PREPOSITION = re.compile(r"\b([Uu]ntil|[Ff]or|[Bb]y|[Bb]efore|[Ff]rom|[Tt]han) on (?=[A-Z])")
_SENTENCE = re.compile(r"((?:^|[.!?] |[.]\" |#: )\"?|[,:] \")([a-z])", re.MULTILINE)


def polish(text: str) -> str:
    """The text with `an` before vowels, `until Friday` for `until on Friday`, capitals after full stops."""
    text = _PREPOSITION.sub(r"\1 ", _ARTICLE.sub(r"\1n ", text)).replace('?,"', '?"').replace('!,"', '!"')
    return _SENTENCE.sub(lambda match: match[1] + match[2].upper(), text)
