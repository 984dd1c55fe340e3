"""Sums, sequences and word problems; every equation `a + b = c` in the text is right."""

from collections.abc import Callable

from luthier.data.builtin.choices import Choices
from luthier.data.builtin.template import polish, shared

NAMES = [(name[0][0], name[1][0]) for name in shared().values["name"] if isinstance(name, tuple)]
THINGS = (
    "apples",
    "books",
    "eggs",
    "coins",
    "stamps",
    "pencils",
    "oranges",
    "cards",
    "stones",
    "shells",
    "cakes",
    "flowers",
    "balls",
    "tickets",
    "bottles",
    "plates",
    "chairs",
    "nuts",
    "cherries",
    "buttons",
    "sheep",
    "hens",
)
HOLDERS = ("box", "bag", "basket", "shelf", "room", "table", "jar", "row", "drawer")
PLURAL = {"box": "boxes", "shelf": "shelves"}


def plural(noun: str) -> str:
    """The plural of a holder."""
    return PLURAL.get(noun, noun + "s")


def equation(c: Choices) -> tuple[str, int]:
    """An expression of one operation and its value."""
    kind = c.pick("+-*/")
    if kind == "+":
        a, b = c.number(2, 99), c.number(2, 99)
        return f"{a} + {b}", a + b
    if kind == "-":
        a, b = c.number(2, 99), c.number(2, 99)
        return f"{a + b} - {a}", b
    a, b = c.number(2, 12), c.number(2, 12)
    return (f"{a} * {b}", a * b) if kind == "*" else (f"{a * b} / {a}", b)


def drill(c: Choices) -> str:
    """One sum as question and answer or as a statement."""
    left, value = equation(c)
    return c.pick(
        (
            f"{left} = {value}.",
            f"What is {left}? It is {value}, because {left} = {value}.",
            f"Question: {left} = ? Answer: {left} = {value}.",
            f"If you work out {left}, you get {value}.",
        )
    )


def sequence(c: Choices) -> str:
    """A rising or falling sequence and its next number."""
    start, step = c.number(1, 40), c.number(2, 9)
    numbers = [start + step * i for i in range(5)]
    word = "add"
    if c.maybe(0.4):
        numbers, word = numbers[::-1], "take away"
    last, sign = numbers[-2], "+" if word == "add" else "-"
    shown = ", ".join(map(str, numbers[:-1]))
    return c.pick(
        (
            f"{shown}: what comes next? We {word} {step} each time. {last} {sign} {step} = {numbers[-1]}.",
            f"Which number follows {shown}? {last} {sign} {step} = {numbers[-1]}, so it is {numbers[-1]}.",
        )
    )


def compare(c: Choices) -> str:
    """Which of two different numbers is larger, and by how much."""
    a, more = c.number(2, 80), c.number(1, 19)
    b = a + more
    first, second = (a, b) if c.maybe() else (b, a)
    return c.pick(
        (
            f"Which is more, {first} or {second}? {b} is more than {a}, and {b} - {a} = {more}.",
            f"{a} is smaller than {b}. The difference is {more}, because {b} - {a} = {more}.",
        )
    )


def halves(c: Choices) -> str:
    """Half, double, even or odd."""
    n = c.number(2, 60)
    kind = c.number(0, 2)
    if kind == 0:
        return f"The double of {n} is {2 * n}, because {n} + {n} = {2 * n}."
    if kind == 1:
        return f"Half of {2 * n} is {n}, because {2 * n} / 2 = {n}."
    return f"Is {n} even or odd? {n} is {'odd' if n % 2 else 'even'}."


def give_and_take(c: Choices) -> str:
    """Somebody gets and gives away things."""
    (name, he), thing = c.pick(NAMES), c.pick(THINGS)
    a, b = c.number(5, 40), c.number(2, 30)
    total = a + b
    less = c.number(2, total - 2)
    text = c.pick((f"{name} has {a} {thing} and gets {b} more.", f"{name} buys {a} {thing} and then finds {b} more."))
    if c.maybe():
        return f"{text} How many {thing} does {he} have now? {a} + {b} = {total}. {name} has {total} {thing}."
    away = c.pick(("gives away", "sells", "loses"))
    return (
        f"{text} Then {he} {away} {less}. How many {thing} are left? "
        f"{a} + {b} = {total}, and {total} - {less} = {total - less}. There are {total - less} left.".replace(
            "There are 1 left", "There is 1 left"
        )
    )


def groups(c: Choices) -> str:
    """Equal groups, multiplied or divided."""
    thing, holder = c.pick(THINGS), c.pick(HOLDERS)
    a, b = c.number(2, 12), c.number(2, 12)
    if c.maybe():
        return (
            f"There are {a} {plural(holder)} with {b} {thing} in each {holder}. How many {thing} are there "
            f"together? {a} * {b} = {a * b}. There are {a * b} {thing}."
        )
    name, he = c.pick(NAMES)
    return (
        f"{name} has {a * b} {thing} and puts {b} in each {holder}. "
        f"How many {plural(holder)} does {he} need? "
        f"{a * b} / {b} = {a}. {name} needs {a} {plural(holder)}."
    )


def shopping(c: Choices) -> str:
    """A price, a number of things and the change."""
    name, he = c.pick(NAMES)
    thing, price, n = c.pick(THINGS[:16]), c.number(2, 9), c.number(2, 9)
    cost = price * n
    paid = c.pick([note for note in (20, 50, 100) if note > cost])
    one = thing.removesuffix("s") if thing != "cherries" else "cherry"
    return (
        f"A {one} costs {price} dollars. {name} buys {n} {thing} and pays with {paid} dollars. "
        f"How much money does "
        f"{he} get back? {n} * {price} = {cost}, and {paid} - {cost} = {paid - cost}. "
        f"{name} gets back {paid - cost} dollar{'' if paid - cost == 1 else 's'}."
    )


def ages(c: Choices) -> str:
    """The ages of two people."""
    (name, he), (other, _) = c.sample(NAMES, 2)
    age, gap, years = c.number(5, 50), c.number(2, 20), c.number(2, 15)
    older, later = age + gap, age + years
    text = f"{name} is {age} years old, and {other} is {gap} years older. "
    text += f"How old is {other}? {age} + {gap} = {older}."
    if c.maybe():
        return f"{text} {other} is {older}."
    asked = f"And how old will {name} be in {years} years?"
    return f"{text} {asked} {age} + {years} = {later}, so {he} will be {later}."


def clock(c: Choices) -> str:
    """Minutes in hours, or the end of something that takes some hours."""
    name, _ = c.pick(NAMES)
    if c.maybe():
        hours = c.number(2, 9)
        return f"How many minutes are {hours} hours? An hour has 60 minutes, and {hours} * 60 = {hours * 60}."
    start, hours = c.number(1, 8), c.number(2, 4)
    what = c.pick(("film", "train ride", "lesson", "walk", "match", "meeting", "concert", "party"))
    return (
        f"{name}'s {what} begins at {start} o'clock and takes {hours} hours. When does it end? "
        f"{start} + {hours} = {start + hours}, so it ends at {start + hours} o'clock."
    )


DRILLS: tuple[Callable[[Choices], str], ...] = (drill, drill, drill, sequence, compare, halves)
PROBLEMS: tuple[Callable[[Choices], str], ...] = (give_and_take, groups, shopping, ages, clock)


def arithmetic(c: Choices) -> tuple[str, str]:
    """(text, family) of one document: several drills, or a few word problems."""
    if c.maybe(0.45):
        return polish("\n".join(c.pick(DRILLS)(c) for _ in range(c.number(5, 9)))), "drills"
    return polish("\n".join(c.pick(PROBLEMS)(c) for _ in range(c.number(2, 4)))), "problems"
