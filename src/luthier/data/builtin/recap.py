"""What a summary tells about P and Q, as one of them would say it."""

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


VERBS = _words("""
    accepts advises agrees allows asks believes bets books brings buys calls changes checks chews chooses collects
    comes complains copies costs counts decides deletes does drinks drives drops eats ends explains falls fears finds
    follows gets gives goes has helps hopes informs interviews invites is joins keeps knows laughs learns leaves lends
    lets likes lives looks loves lowers makes meets moves needs offers opens orders owes passes pays plans prefers
    promises puts reads recommends refuses reminds rents reports returns says sees sells sends shows signs sleeps
    smells speaks spends starts stays stops suggests surprises takes talks tells tests thanks thinks trains tries
    trusts turns visits wants warns was wears wins wishes wonders works writes
""")
AUXILIARIES = _words("will can cannot can't could would should must may might did had")
ADVERBS = _words("never also always still only not really just already then even now soon first")
# a person named after one of these acts, and is not acted upon
STARTERS = _words("""
    and but or because since as that if when where what which who until so how why whether before after while though
""")
BASES = {
    "has": "have",
    "does": "do",
    "goes": "go",
    "tries": "try",
    "copies": "copy",
    "passes": "pass",
    "wishes": "wish",
}
BE = {"I": {"is": "am", "was": "was"}, "you": {"is": "are", "was": "were"}}
_WE = re.compile(r"\bP and Q\b|\bQ and P\b|^they\b|(?<=, and )they\b|(?<=, so )they\b")
_WORD = re.compile(r"\w+(?:'\w+)*|[^\w\s]+|\s+")


def spoken(clause: str, speaker: str) -> str:
    """A clause about P and Q in the mouth of one of them (`speaker`).

    `P says that Q's dog barks at P` is, said by Q, `you say that my dog barks at you`.
    """
    words: list[str] = _WORD.findall(_WE.sub("we", clause))
    said: list[str] = []
    subject = before = ""  # who acts; the last word that is no adverb
    for i, word in enumerate(words):
        if word.isspace():
            said.append(word)
            continue
        following = next((w for w in words[i + 1 :] if not w.isspace() and w not in ADVERBS), "")
        if word in ("P", "Q"):
            acts = following in VERBS | AUXILIARIES or (before in STARTERS | {"", ",", "."} and following.isalpha())
            name = ("I" if acts else "me") if word == speaker else "you"
            subject = name if acts else subject
            said.append(name)
        elif word in ("P's", "Q's"):
            said.append("my" if word[0] == speaker else "your")
        elif subject and word in VERBS and before in ("P", "Q", "and", "but", "or"):
            said.append({**BASES, **BE[subject]}.get(word, word.removesuffix("s")))
        else:
            said.append(word)
        before = before if word in ADVERBS else word
    return "".join(said)
