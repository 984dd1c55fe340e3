"""A little English and French: nouns with articles, adjectives that agree, short sentences, phrases."""

from collections.abc import Callable

from luthier.data.builtin.choices import Choices
from luthier.data.builtin.template import polish, table

NOUNS, ADJECTIVES, VERBS = table("french", "nouns"), table("french", "adjectives"), table("french", "verbs")
FIXED = table("french", "phrases") + table("french", "numbers") + table("french", "days")
# Masculine forms before a vowel.
LIAISON = {"beau": "bel", "vieux": "vieil"}
UNCOUNTED = {"bread", "cheese", "soup", "sea", "sun", "moon"}
PLACES = {
    "house",
    "garden",
    "kitchen",
    "room",
    "town",
    "school",
    "church",
    "shop",
    "station",
    "forest",
    "mountain",
    "island",
    "street",
    "bridge",
    "river",
    "sea",
    "sun",
    "moon",
    "star",
}
THINGS = [noun for noun in NOUNS if noun[0] not in UNCOUNTED]
OBJECTS = [noun for noun in THINGS if noun[0] not in PLACES]
PEOPLE = {"boy", "girl", "child", "man", "woman", "teacher", "doctor", "friend", "king", "queen", "baker"}
ROOMS = [noun for noun in NOUNS if noun[0] in ("house", "garden", "kitchen", "room", "forest")]


def _adjectives(words: str) -> list[list[str]]:
    return [adjective for adjective in ADJECTIVES if adjective[0] in words.split()]


COLOURS = _adjectives("red blue green black white yellow grey brown")
OF_THINGS = COLOURS + _adjectives("big small beautiful old good bad")
OF_PEOPLE = _adjectives("old young good")
THINGS_ARE = COLOURS + _adjectives("big small beautiful old clean dirty lost")
PEOPLE_ARE = _adjectives("small young old beautiful sad strong tired lost")


def elides(word: str) -> bool:
    """Whether le, la, je lose their vowel before the word (no aspirated h is in the tables)."""
    return word[0] in "aeiouéèêâîôœh"


def the(word: str, gender: str) -> str:
    """The word with its definite article."""
    return f"l'{word}" if elides(word) else f"{'le' if gender == 'm' else 'la'} {word}"


def a(word: str, gender: str) -> str:
    """The word with its indefinite article."""
    return f"{'un' if gender == 'm' else 'une'} {word}"


def described(noun: list[str], adjective: list[str]) -> str:
    """Adjective and noun in their French order, agreeing."""
    _, word, gender = noun
    form = adjective[1] if gender == "m" else adjective[2]
    if adjective[3] == "after":
        return f"{word} {form}"
    return f"{LIAISON.get(form, form) if elides(word) else form} {word}"


def word_pair(c: Choices) -> tuple[str, str]:
    """A noun with an article."""
    english, word, gender = c.pick(NOUNS)
    if english in UNCOUNTED or c.maybe():
        return f"the {english}", the(word, gender)
    return f"a {english}", a(word, gender)


def fixed_pair(c: Choices) -> tuple[str, str]:
    """A phrase, number, day, month or season."""
    english, french = c.pick(FIXED)
    return english, french


def adjective_pair(c: Choices) -> tuple[str, str]:
    """An indefinite article, an adjective and a noun."""
    noun = c.pick(OBJECTS)
    adjective = c.pick(OF_PEOPLE if noun[0] in PEOPLE else OF_THINGS)
    return f"a {adjective[0]} {noun[0]}", a(described(noun, adjective), noun[2])


def is_pair(c: Choices) -> tuple[str, str]:
    """A noun is big, small, old ..."""
    english, word, gender = c.pick(THINGS)
    adjective = c.pick(PEOPLE_ARE if english in PEOPLE else THINGS_ARE)
    form = adjective[1] if gender == "m" else adjective[2]
    return f"The {english} is {adjective[0]}.", f"{the(word, gender)} est {form}."


def action_pair(c: Choices) -> tuple[str, str]:
    """I see a dog; he takes the red book; we look for the key."""
    verb, noun = c.pick(VERBS), c.pick(OBJECTS)
    who = c.number(0, 3)
    english = ("I", "you", "she" if c.maybe() else "he", "we")[who]
    french = {"I": "je", "you": "tu", "she": "elle", "he": "il", "we": "nous"}[english]
    form = verb[1 + who]
    start = f"j'{form}" if french == "je" and elides(form) else f"{french} {form}"
    definite = c.maybe() or verb[0] in ("like", "know")
    english_noun, french_noun = noun[0], noun[1]
    if noun[0] not in PEOPLE and c.maybe(0.4):
        adjective = c.pick(COLOURS)
        english_noun, french_noun = f"{adjective[0]} {noun[0]}", described(noun, adjective)
    article = the(french_noun, noun[2]) if definite else a(french_noun, noun[2])
    does = verb[5] if english in ("he", "she") else verb[0]
    return f"{english} {does} {'the' if definite else 'a'} {english_noun}.", f"{start} {article}."


def where_pair(c: Choices) -> tuple[str, str]:
    """Where somebody or something is."""
    thing, place = c.pick(OBJECTS), c.pick(ROOMS)
    if c.maybe(0.3):
        return f"Where is the {thing[0]}?", f"où est {the(thing[1], thing[2])} ?"
    return (
        f"The {thing[0]} is in the {place[0]}.",
        f"{the(thing[1], thing[2])} est dans {the(place[1], place[2])}.",
    )


PAIRS: tuple[Callable[[Choices], tuple[str, str]], ...] = (
    word_pair,
    fixed_pair,
    adjective_pair,
    is_pair,
    action_pair,
    action_pair,
    where_pair,
)
FRAMES = (
    "English: {0} French: {1}",
    "{0} = {1}",
    "{1} means: {0}",
    "How do you say in French: {0} Answer: {1}",
)


def french(c: Choices) -> tuple[str, str]:
    """(text, "pairs") of one document of four to eight translations in one frame."""
    frame = c.pick(FRAMES)
    lines = []
    for _ in range(c.number(4, 8)):
        english, word = c.pick(PAIRS)(c)
        lines.append(frame.format(polish(english), word[0].upper() + word[1:]))
    return "\n".join(lines), "pairs"
