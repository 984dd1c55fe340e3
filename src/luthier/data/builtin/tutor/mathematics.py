"""Sums, sequences, comparisons and word problems for children, answered with the working, the result last.

The item of a row is its calculation: the same sum as a drill and in a story is one item, whichever term comes first.
"""

from collections.abc import Iterator

from luthier.data.builtin.arithmetic import NAMES, THINGS, plural
from luthier.data.builtin.choices import Choices
from luthier.data.builtin.template import polish
from luthier.data.builtin.tutor.asking import Draw, ask, fresh

SMALL = [thing for thing in THINGS if thing not in ("chairs", "flowers", "sheep", "hens")]
GOODS = [thing for thing in SMALL if thing not in ("coins", "stones", "shells", "cherries")]
BOXES = ("box", "bag", "basket")
LASTING = ("film", "train ride", "walk", "match", "meeting", "concert", "party")
TOP = 99
"""No sum of a drill or a story is larger."""


def calculation(left: int, sign: str, right: int) -> tuple[str, str, int]:
    """(expression, item, value); + and * have one item for both orders.

    >>> calculation(12, "+", 7)
    ('12 + 7', '7+12', 19)
    """
    value = {"+": left + right, "-": left - right, "*": left * right, "/": left // right}[sign]
    first, second = sorted((left, right)) if sign in "+*" else (left, right)
    return f"{left} {sign} {right}", f"{first}{sign}{second}", value


def _solved(c: Choices, skill: str, wordings: tuple[str, ...], left: int, sign: str, right: int) -> dict:
    expression, item, value = calculation(left, sign, right)
    row = ask(c, skill, item, [polish(wording) for wording in wordings], f"{expression} = {value}")
    return row | {"item": f"sum:{item}"}


def _drill(c: Choices, skill: str, left: int, sign: str, right: int) -> dict:
    left_side = calculation(left, sign, right)[0]
    wordings = (f"What is {left_side}?", f"{left_side} = ?", f"How much is {left_side}?", f"Work out {left_side}.")
    return _solved(c, skill, wordings, left, sign, right)


def addition(c: Choices) -> dict:
    """Two numbers with a sum of at most 99."""
    a = c.number(2, TOP - 2)
    return _drill(c, "addition", a, "+", c.number(2, TOP - a))


def subtraction(c: Choices) -> dict:
    """A number below 100 and a smaller one."""
    a = c.number(4, TOP)
    return _drill(c, "subtraction", a, "-", c.number(2, a - 2))


def multiplication(c: Choices) -> dict:
    """The times tables from 2 to 12."""
    return _drill(c, "multiplication", c.number(2, 12), "*", c.number(2, 12))


def division(c: Choices) -> dict:
    """The times tables from 2 to 12, backwards."""
    a, b = c.number(2, 12), c.number(2, 12)
    return _drill(c, "division", a * b, "/", a)


def sequence(c: Choices) -> dict:
    """The next number of a rising or falling sequence."""
    start, step = c.number(1, 40), c.number(2, 9)
    numbers = [start + step * i for i in range(5)]
    rises = c.maybe(0.6)
    if not rises:
        numbers.reverse()
    shown = ", ".join(map(str, numbers[:-1]))
    wordings = (f"{shown}: what comes next?", f"Which number follows {shown}?", f"What comes after {shown}?")
    row = _solved(c, "sequence", wordings, numbers[-2], "+" if rises else "-", step)
    return row | {"item": f"sequence:{shown}"}


def comparison(c: Choices) -> dict:
    """The larger or the smaller of two numbers, or their difference."""
    small, more = c.number(2, 80), c.number(1, 19)
    large = small + more
    first, second = (small, large) if c.maybe() else (large, small)
    kind, item = c.number(0, 2), f"{small},{large}"
    if kind == 0:
        wordings = (f"Which is more, {first} or {second}?", f"Which number is larger, {first} or {second}?")
        return ask(c, "comparison", item, wordings, f"{large} is more than {small}")
    if kind == 1:
        wordings = (f"Which is less, {first} or {second}?", f"Which number is smaller, {first} or {second}?")
        return ask(c, "comparison", item, wordings, f"{small} is smaller than {large}")
    asked = (
        f"What is the difference between {first} and {second}?",
        f"How much more is {large} than {small}?",
        f"By how much is {small} smaller than {large}?",
    )
    return _solved(c, "comparison", asked, large, "-", small)


def halves(c: Choices) -> dict:
    """Half or double, even or odd."""
    n, kind = c.number(2, 49), c.number(0, 2)
    if kind == 0:
        return _solved(c, "double", (f"What is the double of {n}?", f"What is twice {n}?", f"Double {n}."), n, "+", n)
    if kind == 1:
        wordings = (f"What is half of {2 * n}?", f"How much is half of {2 * n}?", f"Halve {2 * n}.")
        return _solved(c, "half", wordings, 2 * n, "/", 2)
    m = c.number(2, TOP)
    wordings = (f"Is {m} even or odd?", f"Is {m} an even or an odd number?")
    return ask(c, "parity", str(m), wordings, f"{m} is {'odd' if m % 2 else 'even'}")


def getting(c: Choices) -> dict:
    """Somebody gets more things."""
    (name, he), thing = c.pick(NAMES), c.pick(THINGS)
    a, b = c.number(2, 60), c.number(2, 39)
    wordings = (
        f"{name} has {a} {thing} and gets {b} more. How many {thing} does {he} have now?",
        f"{name} buys {a} {thing} and then buys {b} more. How many {thing} does {he} have?",
        f"There are {a} {thing} on the left and {b} {thing} on the right. How many {thing} are there together?",
    )
    return _solved(c, "word-problem", wordings, a, "+", b)


def giving(c: Choices) -> dict:
    """Somebody gives things away."""
    (name, he), thing = c.pick(NAMES), c.pick(THINGS)
    a = c.number(4, TOP)
    b = c.number(2, a - 2)
    wordings = (
        f"{name} has {a} {thing} and gives away {b}. How many {thing} are left?",
        f"{name} has {a} {thing}. Then {he} sells {b}. How many {thing} are left?",
        f"There are {a} {thing}, and {name} takes {b} of them. How many {thing} are left?",
    )
    return _solved(c, "word-problem", wordings, a, "-", b)


def sharing(c: Choices) -> dict:
    """Equal groups, multiplied or divided."""
    (name, he), thing, box = c.pick(NAMES), c.pick(SMALL), c.pick(BOXES)
    boxes, a, b = plural(box), c.number(2, 12), c.number(2, 12)
    if c.maybe():
        wordings = (
            f"There are {a} {boxes} with {b} {thing} in each {box}. How many {thing} are there together?",
            f"{name} has {a} {boxes} with {b} {thing} in each {box}. How many {thing} does {he} have?",
        )
        return _solved(c, "word-problem", wordings, a, "*", b)
    wordings = (
        f"{name} has {a * b} {thing} and puts {b} in each {box}. How many {boxes} does {he} need?",
        f"{a * b} {thing} go into {boxes}, {b} in each {box}. How many {boxes} are there?",
    )
    return _solved(c, "word-problem", wordings, a * b, "/", b)


def ages(c: Choices) -> dict:
    """The age of somebody older, or of the same person later."""
    (name, he), (other, _) = c.sample(NAMES, 2)
    age, years = c.number(4, 50), c.number(2, 20)
    wordings = (
        f"{name} is {age} years old, and {other} is {years} years older. How old is {other}?",
        f"{name} is {age} years old. How old will {he} be in {years} years?",
    )
    return _solved(c, "word-problem", wordings, age, "+", years)


def clock(c: Choices) -> dict:
    """Minutes in hours, or the end of something that takes some hours."""
    (name, _), what = c.pick(NAMES), c.pick(LASTING)
    start, hours = c.number(1, 8), c.number(2, 4)
    if c.maybe(0.3):
        wordings = (
            f"How many minutes are {hours} hours?",
            f"{name}'s {what} takes {hours} hours. How many minutes is that?",
        )
        return _solved(c, "word-problem", wordings, hours, "*", 60)
    wordings = (
        f"{name}'s {what} begins at {start} o'clock and takes {hours} hours. When does it end?",
        f"The {what} takes {hours} hours. It begins at {start} o'clock. When is it over?",
    )
    return _solved(c, "word-problem", wordings, start, "+", hours)


def price(c: Choices) -> dict:
    """What several things of one price cost."""
    name, thing, cost, n = c.pick(NAMES)[0], c.pick(GOODS), c.number(2, 9), c.number(2, 9)
    one = thing.removesuffix("s")
    wordings = (
        f"A {one} costs {cost} dollars. How many dollars do {n} {thing} cost?",
        f"A {one} costs {cost} dollars. {name} buys {n} {thing}. How many dollars does {name} pay?",
    )
    return _solved(c, "word-problem", wordings, n, "*", cost)


def change(c: Choices) -> dict:
    """Two steps: what several things cost, and the change."""
    (name, he), thing, cost, n = c.pick(NAMES), c.pick(GOODS), c.number(2, 9), c.number(2, 9)
    paid = c.pick([note for note in (20, 50, 100) if note > cost * n])
    told = f"A {thing.removesuffix('s')} costs {cost} dollars. {name} buys {n} {thing} and pays with {paid} dollars."
    wordings = [polish(f"{told} How much money does {he} get back?"), polish(f"{told} What is the change?")]
    total = n * cost
    answer = f"{n} * {cost} = {total}, and {paid} - {total} = {paid - total}"
    return ask(c, "two-step", f"{min(n, cost)}*{max(n, cost)},{paid}", wordings, answer)


def give_and_take(c: Choices) -> dict:
    """Two steps: somebody gets things and gives some away."""
    (name, he), thing = c.pick(NAMES), c.pick(THINGS)
    a, b = c.number(5, 40), c.number(2, 30)
    total = a + b
    less = c.number(2, total - 2)
    wordings = (
        f"{name} has {a} {thing} and gets {b} more. Then {he} gives away {less}. How many {thing} are left?",
        f"{name} buys {a} {thing} and then buys {b} more. Then {he} sells {less}. How many {thing} are left?",
    )
    answer = f"{a} + {b} = {total}, and {total} - {less} = {total - less}"
    return ask(c, "two-step", f"{min(a, b)}+{max(a, b)},{less}", wordings, answer)


WEIGHTS: dict[Draw, float] = {
    addition: 18,
    subtraction: 16,
    multiplication: 8,
    division: 7,
    sequence: 9,
    comparison: 7,
    halves: 5,
    getting: 5,
    giving: 5,
    sharing: 6,
    ages: 4,
    clock: 3,
    price: 4,
    change: 3,
    give_and_take: 3,
}


def mathematics_rows(choices: Choices) -> Iterator[dict]:
    """Endless rows {question, answer, skill, item} of `tutor-mathematics`."""
    return fresh(choices, lambda c: c.weighted(WEIGHTS)(c))
