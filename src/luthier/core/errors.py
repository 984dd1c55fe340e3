"""What Luthier raises, and the exit code that each kind gives the command line.

A `UserError` is the user's to mend: its one sentence says what is wrong, where (file, row, key) and what to
write instead. A `Refusal` is an answer: the check failed, the gate refused, the budget would be exceeded.
Everything else that escapes is a defect of Luthier's (exit code 3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches

DONE, REFUSED, USER, BROKEN = 0, 1, 2, 3
INTERRUPTED = 130
SHOWN = 25  # names that a sentence lists


class UserError(ValueError):
    """Input that the user can mend: exit code 2."""


class DiskError(UserError):
    """The disk is full or may not be written: what was begun is worth going on with."""


class Refusal(ValueError):
    """The answer is no, for a reason that the message gives: exit code 1."""


class Interrupted(Exception):
    """Ctrl-C or SIGTERM arrived and the state was saved first: exit code 130."""


def masked(text: str) -> str:
    """The text with user and password of every address in it blotted out."""
    return re.sub(r"://[^/@\s]+@", "://***@", text)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A sentence naming the closest known word, or else all of them (the first ones of very many)."""
    known = sorted(known)
    close = get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    return f"known: {', '.join(known[:SHOWN]) or 'none'}{more}"
