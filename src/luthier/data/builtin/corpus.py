"""The pretraining corpus: documents of seven kinds, mixed by their share of the text."""

from collections.abc import Callable, Iterator

from luthier.data.builtin.arithmetic import arithmetic
from luthier.data.builtin.choices import Choices
from luthier.data.builtin.dialogues import dialogue, pick_family
from luthier.data.builtin.facts import general_knowledge
from luthier.data.builtin.french import french
from luthier.data.builtin.prose import manners, story
from luthier.data.builtin.wordgames import word_games

# Never the prompt of the shipped recipe: that form is left to fine-tuning.
FRAMINGS = (
    "{d}\n\nIn short, {s}",
    "{d}\n\nWhat happened: {s}",
    "{d}\n\nTo sum up: {s}",
    "{d}\n\nThe main points: {s}",
    "{d}\n\nIn a few words: {s}",
    "{d}\n\nSo this is what they said. {s}",
    "{d}\n\n{s}",
    "What the talk is about: {s}\n\n{d}",
    "{s}\n\n{d}",
    "In brief: {s} Here is the talk:\n\n{d}",
    "Two people talk. {s}\n\n{d}",
    "{d}\n\nWhat was this talk about? {s}",
)


def conversation(c: Choices) -> tuple[str, str]:
    """(text, family title) of a dialogue, alone or with its summary."""
    family = pick_family(c)
    text, summary = dialogue(family, c)
    if c.maybe(0.4):
        return text, family.title
    frame = c.pick(FRAMINGS)
    return frame.format(d=text, s=summary), family.title


# kind -> (maker, share of the text, mean bytes of a document)
KINDS: dict[str, tuple[Callable[[Choices], tuple[str, str]], float, int]] = {
    "dialogue": (conversation, 0.40, 560),
    "story": (story, 0.15, 510),
    "arithmetic": (arithmetic, 0.15, 346),
    "knowledge": (general_knowledge, 0.10, 285),
    "words": (word_games, 0.08, 342),
    "manners": (manners, 0.07, 462),
    "french": (french, 0.05, 304),
}
WEIGHTS = {kind: share / size for kind, (_, share, size) in KINDS.items()}


def corpus_rows(choices: Choices) -> Iterator[dict]:
    """Endless rows {text, kind, family, bits}: bits is the information in the draws that made the text."""
    while True:
        before = choices.bits
        kind = choices.weighted(WEIGHTS)
        text, family = KINDS[kind][0](choices)
        yield {"text": text, "kind": kind, "family": family, "bits": choices.bits - before}
