"""Snapshots of finished texts, so that the next turn of a conversation computes only what is new.

A snapshot is references to pages, never a copy. Because bits do not depend on how a text was cut into steps,
an answer from a snapshot equals an answer from scratch.
"""

from __future__ import annotations

from collections.abc import Sequence as Ids

import numpy as np

from ..model.pages import Pages, Sequence


class Snapshots:
    """The most recent texts and their pages; the least recently used goes first."""

    def __init__(self, pages: Pages, limit: int) -> None:
        self._pages = pages
        self._limit = limit
        self._kept: list[tuple[np.ndarray, Sequence]] = []

    def __len__(self) -> int:
        return len(self._kept)

    def start(self, ids: Ids[int]) -> Sequence:
        """A sequence that already holds the longest usable beginning of `ids`, never all of it."""
        wanted = np.asarray(ids, np.int32)
        best, length = -1, 0
        for number, (kept, sequence) in enumerate(self._kept):
            shared = min(_common(kept, wanted), len(wanted) - 1)
            if shared > length and self._pages.can_truncate(sequence, shared):
                best, length = number, shared
        if best < 0:
            return Sequence()
        self._kept.append(self._kept.pop(best))
        sequence = self._pages.fork(self._kept[-1][1])
        self._pages.truncate(sequence, length)
        return sequence

    def keep(self, ids: Ids[int], sequence: Sequence) -> None:
        """Remember the committed part of `sequence`, whose tokens are the first of `ids`."""
        key = np.asarray(ids[: sequence.length], np.int32)
        for number, (kept, _) in enumerate(self._kept):
            if np.array_equal(kept, key):
                self._pages.release(self._kept.pop(number)[1])
                break
        self._kept.append((key, self._pages.fork(sequence)))
        while len(self._kept) > self._limit:
            self.evict()

    def evict(self) -> bool:
        """Let the least recently used go; False when there is none."""
        if not self._kept:
            return False
        self._pages.release(self._kept.pop(0)[1])
        return True

    def clear(self) -> None:
        """Forget everything."""
        while self.evict():
            pass


def _common(a: np.ndarray, b: np.ndarray) -> int:
    """Length of the common beginning."""
    n = min(len(a), len(b))
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n
