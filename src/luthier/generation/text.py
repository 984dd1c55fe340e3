"""From tokens to text as they come: whole characters only, and nothing of a stop string."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

BROKEN = "\ufffd"  # what a decoder writes for bytes that are no character, or not yet


class Stream:
    """The text of one answer, piece by piece; the pieces make up what the tokenizer says of all tokens at once.

    Text is held back while its last bytes may be the beginning of a character, and while it may be the beginning of
    a stop string. Once a stop string is there, `stopped` is true and everything from it on is thrown away.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop: Sequence[str] = ()) -> None:
        self.tokenizer, self.stop = tokenizer, tuple(stop)
        self.stopped = False
        self._window: list[int] = []  # tokens decoded together: those since the last whole character, some before
        self._known = 0  # tokens of the window whose text was taken
        self._held = ""  # taken, but not given away: it may be the beginning of a stop string

    def add(self, token: int) -> str:
        """The text that one more token makes certain."""
        self._window.append(token)
        return self._release(self._taken(last=False), last=False)

    def end(self) -> str:
        """All that was held back."""
        return self._release(self._taken(last=True), last=True)

    def _taken(self, last: bool) -> str:
        before = self._decode(self._window[: self._known])
        now = self._decode(self._window)
        if now.endswith(BROKEN) and not last:
            return ""
        # The tokens of this piece stay in the window as the next one's past: some decoders treat the first token of
        # a text in another way (they drop its space).
        self._window = self._window[self._known :] if len(now) > len(before) else self._window
        self._known = len(self._window)
        return now[len(before) :]

    def _release(self, text: str, last: bool) -> str:
        if self.stopped:
            return ""
        text = self._held + text
        found = [at for stop in self.stop if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = 0 if last else max((_overlap(text, stop) for stop in self.stop), default=0)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _decode(self, tokens: list[int]) -> str:
        if not tokens:
            return ""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of the text are the beginning of the stop string, short of all of it."""
    return next((n for n in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:n])), 0)
