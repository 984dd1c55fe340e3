"""Word games: plurals, opposites, rhymes, spelling, alphabetical order, anagrams, odd one out."""

from collections.abc import Callable
from typing import Any

from luthier.data.builtin.choices import Choices
from luthier.data.builtin.template import Draw, SlotList, parse, shared, table

PLURALS, OPPOSITES, RHYMES = table("words", "plurals"), table("words", "opposites"), table("words", "rhymes")
GROUPS = {words[0]: words[1:] for words in table("words", "groups")}
WORDS = sorted({word for words in GROUPS.values() for word in words if " " not in word})


def plural(c: Choices) -> str:
    """Singular and plural of a noun."""
    one, many = c.pick(PLURALS)
    return c.pick(
        (
            f'The plural of "{one}" is "{many}".',
            f"One {one}, two {many}.",
            f'What is the plural of "{one}"? It is "{many}".',
            f"One {one}, but many {many}.",
        )
    )


def opposite(c: Choices) -> str:
    """Two opposites, in either order."""
    a, b = c.sample(c.pick(OPPOSITES), 2)
    return c.pick(
        (
            f'The opposite of "{a}" is "{b}".',
            f'What is the opposite of "{a}"? It is "{b}".',
            f'"{a}" and "{b}" are opposites.',
            f"If something is not {a}, it may be {b}.",
        )
    )


def rhyme(c: Choices) -> str:
    """Words that rhyme, and perhaps one that does not."""
    family, other = c.sample(RHYMES, 2)
    a, b, d = c.sample(family, 3)
    return c.pick(
        (
            f'"{a}" rhymes with "{b}" and "{d}".',
            f'Which words rhyme with "{a}"? For example "{b}" and "{d}".',
            f'"{a}" and "{b}" rhyme, but "{a}" and "{c.pick(other)}" do not.',
            f'Find a rhyme for "{a}": "{b}".',
        )
    )


def spelling(c: Choices) -> str:
    """A word letter by letter, or its length, first or last letter."""
    word = c.pick(WORDS)
    letters = "-".join(word.upper())
    return c.pick(
        (
            f'How do you spell "{word}"? {letters}.',
            f'"{word}" is spelt {letters}.',
            f'The word "{word}" has {len(word)} letters: {letters}.',
            f'"{word}" begins with {word[0].upper()} and ends with {word[-1].upper()}.',
            f'"{word}" backwards is "{word[::-1]}".',
        )
    )


def alphabet(c: Choices) -> str:
    """A few words put in alphabetical order."""
    words = c.sample(WORDS, c.number(3, 5))
    ordered = ", ".join(sorted(words, key=str.lower))
    return c.pick(
        (
            f"Put these words in alphabetical order: {', '.join(words)}. Answer: {ordered}.",
            f"In the order of the alphabet, {', '.join(words)} become: {ordered}.",
        )
    )


def anagram(c: Choices) -> str:
    """The mixed letters of a word."""
    word = c.pick(WORDS)
    mixed = "".join(c.sample(word, len(word)))
    return c.pick(
        (
            f'Which word can you make from the letters "{mixed}"? You can make "{word}".',
            f'"{mixed}" has the same letters as "{word}".',
        )
    )


def odd_one_out(c: Choices) -> str:
    """Three words of one group and a stranger."""
    (name, words), (_, others) = c.sample(sorted(GROUPS.items()), 2)
    stranger = c.pick([word for word in others if word not in words])
    three = c.sample(words, 3)
    row = ", ".join(c.sample([*three, stranger], 4))
    return c.pick(
        (
            f'Which word does not belong: {row}? "{stranger}", because the others are {name}.',
            f"{three[0]}, {three[1]} and {three[2]} are {name}. {stranger.capitalize()} does not belong.",
        )
    )


def echo(c: Choices) -> str:
    """A sentence of words that never met before, said again or asked about."""
    draw = Draw(c, {name: SlotList(values, name) for name, values in shared().values.items()})
    name, do, when = (draw.render(parse(f"{{{slot}}}")) for slot in ("name", "do", "when"))
    said = f"{name} will {do} {when}."
    return c.pick(
        (
            f'Say it again: "{said}" "{said}"',
            f"{said} Who will {do}? {name}. When will {name} do it? {name} will {do} {when}.",
            f'"{said}" What did I say? "{said}"',
            f"{said} Will {name} {do}? Yes, {when}.",
        )
    )


def bag(c: Choices) -> str:
    """The memory game: each player says all things again and adds one."""
    nouns: Any = shared().values["noun"]
    things = [f"the {noun[0][0]}" for noun in c.sample(nouns, c.number(3, 4))]
    return " ".join(f"In my bag there is {' and '.join(things[: i + 1])}." for i in range(len(things)))


GAMES: tuple[Callable[[Choices], str], ...] = (
    plural,
    opposite,
    rhyme,
    spelling,
    alphabet,
    anagram,
    odd_one_out,
    echo,
    bag,
)


def word_games(c: Choices) -> tuple[str, str]:
    """(text, family) of one document: several games of one kind, or mixed ones."""
    count = c.number(4, 8)
    games, family = GAMES, "mixed"
    if c.maybe(0.3):
        games = (c.pick(GAMES),)
        family = games[0].__name__
    lines = [c.pick(games)(c) for _ in range(count)]
    return "\n".join(line[0].upper() + line[1:] for line in lines), family
