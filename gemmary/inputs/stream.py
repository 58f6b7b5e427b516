"""Text from tokens as they come: whole characters only, and nothing from a stop string on."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from ..errors import PromptError
from .tokenizer import Tokenizer, check_text


class TextStream:
    """Characters from token ids, one token at a time.

    `push` returns what became readable, perhaps "". At most three bytes, the front of one character, wait for
    the next token. U+FFFD stands for bytes that no further byte can complete. All deltas joined are exactly
    `tokenizer.decode` of all ids.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def push(self, token: int) -> str:
        """The text that `token` completes."""
        return self._decoder.decode(self._tokenizer.piece_bytes(token))

    def finish(self) -> str:
        """What is left at the end: "", or one U+FFFD for a character that was never completed."""
        return self._decoder.decode(b"", final=True)


class StopStrings:
    """Ends a text in front of the first stop string, wherever the borders between its deltas lie.

    `push` returns what can be shown: it keeps back the longest end of the text that may still become a stop
    string. The stop string that is complete first counts; of two that are complete at the same character,
    the longer. Nothing of it, and nothing behind it, is ever returned. `found` is that string, or None.
    """

    def __init__(self, stops: str | Sequence[str] = ()) -> None:
        stops = (stops,) if isinstance(stops, str) else tuple(stops)
        for stop in stops:
            check_text(stop)
            if not stop:
                raise PromptError("a stop string must have at least one character")
        self.found: str | None = None
        self._stops = [(stop, _borders(stop)) for stop in stops]
        self._matched = [0] * len(stops)  # characters of each stop string that the text ends with
        self._held = ""

    def push(self, text: str) -> str:
        """The part of all text so far that is now known to stand in front of every stop string."""
        if self.found is not None:
            return ""
        for position, character in enumerate(text):
            self._advance(character)
            if self.found is not None:
                return self._release(text[: position + 1], len(self.found))
        return self._release(text, max(self._matched, default=0))

    def finish(self) -> str:
        """The text that was kept back, at the end of the answer."""
        return "" if self.found is not None else self._release("", 0)

    def _advance(self, character: str) -> None:
        """One step of Knuth, Morris and Pratt's search for each stop string."""
        for index, (stop, borders) in enumerate(self._stops):
            matched = self._matched[index]
            while matched and stop[matched] != character:
                matched = borders[matched - 1]
            matched += stop[matched] == character
            self._matched[index] = matched
            if matched == len(stop) and len(stop) > len(self.found or ""):
                self.found = stop

    def _release(self, text: str, kept: int) -> str:
        """All but the last `kept` characters."""
        whole = self._held + text
        shown = len(whole) - kept
        self._held = whole[shown:]
        return whole[:shown]


def _borders(stop: str) -> list[int]:
    """For each front of `stop`: the length of its longest proper front that is also its end."""
    borders = [0]
    for character in stop[1:]:
        length = borders[-1]
        while length and stop[length] != character:
            length = borders[length - 1]
        borders.append(length + (stop[length] == character))
    return borders
