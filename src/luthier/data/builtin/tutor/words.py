"""Word games with one right answer: plurals, opposites, rhymes, letters, the alphabet, groups of words."""

from collections.abc import Iterator

from luthier.data.builtin.choices import Choices
from luthier.data.builtin.tutor.asking import Draw, ask, fresh
from luthier.data.builtin.wordgames import GROUPS, OPPOSITES, PLURALS, RHYMES
from luthier.data.builtin.wordgames import WORDS as ALL

NOT_FOR_CHILDREN = {"beer", "wine", "gun"}
WORDS = [word for word in ALL if word.islower() and word not in NOT_FOR_CHILDREN]
# Words with a second opposite that is as good: old has young and new, right has wrong and left ...
TWO_OPPOSITES = {"old", "light", "short", "right", "hard", "easy", "thin", "kind"}
# A word may belong to both groups, or to the first and be called so in the second.
OVERLAPPING = (
    {"animals", "birds"},
    {"fruits", "vegetables"},
    {"fruits", "colours"},
    {"tools", "things that travel"},
    {"animals", "things that travel"},
    {"birds", "things that travel"},
)
MEMBERS = {name: [word for word in words if word not in NOT_FOR_CHILDREN] for name, words in GROUPS.items()}
RHYMING = [[word for word in family if word not in NOT_FOR_CHILDREN] for family in RHYMES]


def plural(c: Choices) -> dict:
    """One and many of a noun, in either direction."""
    one, many = c.pick(PLURALS)
    if one != many and c.maybe(0.4):
        asked = (
            f'What is the singular of "{many}"?',
            f"Many {many}, but one ...",
            f'"{many}" is the plural of which word?',
        )
        return ask(c, "singular", one, asked, one) | {"item": f"plural:{one}"}
    asked = (
        f'What is the plural of "{one}"?',
        f"One {one}, two ...",
        f"One {one}, but many ...",
        f'What is "{one}" in the plural?',
    )
    return ask(c, "plural", one, asked, many)


def opposite(c: Choices) -> dict:
    """The opposite of a word that has one good opposite."""
    a, b = c.pick(OPPOSITES)
    words = [word for word in (a, b) if word not in TWO_OPPOSITES]
    word = c.pick(words)
    asked = (
        f'What is the opposite of "{word}"?',
        f'Which word is the opposite of "{word}"?',
        f'Tell me the opposite of "{word}".',
        f'Which word means the opposite of "{word}"?',
    )
    return ask(c, "opposite", f"{a}/{b}", asked, b if word == a else a)


def rhyme(c: Choices) -> dict:
    """Which of two words rhymes with a third."""
    family, others = c.sample(RHYMING, 2)
    (word, right), wrong = c.sample(family, 2), c.pick(others)
    first, second = c.sample((right, wrong), 2)
    asked = (
        f'Which word rhymes with "{word}": "{first}" or "{second}"?',
        f'Does "{first}" or "{second}" rhyme with "{word}"?',
    )
    return ask(c, "rhyme", ",".join(sorted((word, right))), asked, right)


def spelling(c: Choices) -> dict:
    """A word letter by letter."""
    word = c.pick(WORDS)
    asked = (f'How do you spell "{word}"?', f'How is "{word}" spelt?', f'Spell the word "{word}".')
    return ask(c, "spelling", word, asked, "-".join(word.upper()))


def letters(c: Choices) -> dict:
    """How many letters a word has."""
    word = c.pick(WORDS)
    asked = (f'How many letters does "{word}" have?', f'How many letters has the word "{word}"?')
    return ask(c, "letters", word, asked, f"{len(word)} letters")


def ends(c: Choices) -> dict:
    """The first or the last letter of a word."""
    word = c.pick(WORDS)
    if c.maybe():
        asked = (f'Which letter does "{word}" begin with?', f'What is the first letter of "{word}"?')
        return ask(c, "first-letter", word, asked, word[0].upper())
    asked = (f'Which letter does "{word}" end with?', f'What is the last letter of "{word}"?')
    return ask(c, "last-letter", word, asked, word[-1].upper())


def backwards(c: Choices) -> dict:
    """A word from its last letter to its first."""
    word = c.pick(WORDS)
    asked = (f'What is "{word}" backwards?', f'How do you write "{word}" backwards?')
    return ask(c, "backwards", word, asked, word[::-1])


def alphabet(c: Choices) -> dict:
    """Three or four words in alphabetical order, or the first of two."""
    words = c.sample(WORDS, 2 if c.maybe(0.3) else c.number(3, 4))
    ordered = sorted(words)
    shown, item = ", ".join(words), ",".join(ordered)
    if len(words) == 2:
        a, b = words
        asked = (
            f'Which comes first in the alphabet, "{a}" or "{b}"?',
            f'Which word comes first in alphabetical order, "{a}" or "{b}"?',
        )
        return ask(c, "alphabet", item, asked, ordered[0])
    asked = (
        f"Put these words in alphabetical order: {shown}.",
        f"Write these words in the order of the alphabet: {shown}.",
    )
    return ask(c, "alphabet", item, asked, ", ".join(ordered))


def strangers(c: Choices) -> tuple[str, str]:
    """Two groups of which no word belongs to both."""
    while True:
        first, second = c.sample(sorted(MEMBERS), 2)
        if {first, second} not in OVERLAPPING:
            return first, second


def odd_one_out(c: Choices) -> dict:
    """Three words of one group and a stranger."""
    name, other = strangers(c)
    stranger, three = c.pick(MEMBERS[other]), c.sample(MEMBERS[name], 3)
    row = ", ".join(c.sample([*three, stranger], 4))
    asked = (f"Which word does not belong: {row}?", f"Which is the odd one out: {row}?")
    return ask(c, "odd-one-out", ",".join(sorted([*three, stranger])), asked, stranger)


def group(c: Choices) -> dict:
    """To which of two groups a word belongs."""
    name, other = strangers(c)
    word, (first, second) = c.pick(MEMBERS[name]), c.sample((name, other), 2)
    asked = (
        f'Does "{word}" belong to the {first} or to the {second}?',
        f'To which group does "{word}" belong, the {first} or the {second}?',
    )
    return ask(c, "group", word, asked, name)


WEIGHTS: dict[Draw, float] = {
    plural: 10,
    opposite: 8,
    rhyme: 8,
    spelling: 14,
    letters: 7,
    ends: 10,
    backwards: 7,
    alphabet: 14,
    odd_one_out: 14,
    group: 8,
}


def words_rows(choices: Choices) -> Iterator[dict]:
    """Endless rows {question, answer, skill, item} of `tutor-words`."""
    return fresh(choices, lambda c: c.weighted(WEIGHTS)(c))
