"""Prompt lookup: what followed the last time that the text said the same.

Summaries, edits and answers about code repeat stretches of their prompt. The guess is what stood behind the
longest recent repetition of the last few tokens (Saxena 2023, "Prompt Lookup Decoding"). It costs
microseconds.
"""

from __future__ import annotations

from collections.abc import Sequence

_GRAM = 2  # tokens that must repeat before anything is guessed
_CANDIDATES = 6  # earlier places that are compared, newest first
_LONGEST = 24  # tokens by which places are compared
_GRADES = (2, 3, 4, 5, 8, 16)  # a longer repetition is a better guess


class Lookup:
    """An index of all pairs of neighbours in `ids`, which may grow at the end. O(1) a token."""

    name = "lookup"
    seconds = 0.0
    ready = True

    def __init__(self, ids: Sequence[int]) -> None:
        """`ids` is kept, not copied: what is appended to it is seen."""
        self._ids = ids
        self._latest: dict[tuple[int, int], int] = {}  # pair -> where its second token stands
        self._before: list[int] = []  # place -> the place of the same pair before it, or -1

    def grade(self) -> int | None:
        """How long the repetition is, roughly; None: nothing repeats."""
        length, _ = self.find()
        return max((grade for grade in _GRADES if grade <= length), default=None)

    def propose(self, count: int) -> list[int]:
        """What came behind the repetition. Where that reaches the end of the text, the text goes round."""
        length, place = self.find()
        if length < _GRAM:
            return []
        ids, period = self._ids, len(self._ids) - place
        return [ids[place + i % period] for i in range(count)]

    def read(self) -> None:
        """There is nothing to read: the index grows when it is asked."""

    def finish(self) -> None:
        """There is nothing to give back."""

    def find(self) -> tuple[int, int]:
        """Length of the longest repetition of the text's end, and the place behind its earlier occurrence.

        Among equally long ones the newest; (0, 0) when there is none.
        """
        self._index()
        best, found, place = 0, 0, self._before[-1] if self._before else -1
        for _ in range(_CANDIDATES):
            if place < 0:
                break
            length = self._common(place)
            if length > best:
                best, found = length, place + 1
            place = self._before[place]
        return best, found

    def _index(self) -> None:
        ids, before, latest = self._ids, self._before, self._latest
        for place in range(len(before), len(ids)):
            pair = (ids[place - 1], ids[place]) if place else (-1, ids[0])
            before.append(latest.get(pair, -1))
            latest[pair] = place

    def _common(self, place: int) -> int:
        """How many tokens that end at `place` are those that end the text."""
        ids, end, length = self._ids, len(self._ids) - 1, 0
        most = min(_LONGEST, place + 1)
        while length < most and ids[place - length] == ids[end - length]:
            length += 1
        return length
