"""Snapshots of texts, so that the next turn of a conversation computes only what is new.

A snapshot is references to pages, never a copy. Because bits do not depend on how a text was cut into steps,
an answer from a snapshot equals an answer from scratch. Ids are compared in full: no hash can be mistaken.
"""

from __future__ import annotations

from collections.abc import Sequence as Ids
from dataclasses import dataclass

import numpy as np

from ..model.pages import Pages, Sequence
from ..ops.contract import Ints


@dataclass(eq=False)
class Snapshot:
    """A text and its pages."""

    ids: Ints
    sequence: Sequence


class Snapshots:
    """The most recent texts and their pages; the least recently used goes first."""

    def __init__(self, pages: Pages, limit: int) -> None:
        self._pages = pages
        self._limit = limit
        self._kept: list[Snapshot] = []

    def __len__(self) -> int:
        return len(self._kept)

    def start(self, ids: Ids[int]) -> Sequence:
        """A sequence that already holds the longest usable beginning of `ids`, never all of it."""
        wanted = np.asarray(ids, np.int32)
        best, length = None, 0
        for snapshot in self._kept:
            shared = min(_common(snapshot.ids, wanted), len(wanted) - 1)
            if shared > length and self._pages.can_truncate(snapshot.sequence, shared):
                best, length = snapshot, shared
        if best is None:
            return Sequence()
        self._touch(best)
        sequence = self._pages.fork(best.sequence)
        self._pages.truncate(sequence, length)
        return sequence

    def keep(self, ids: Ids[int], sequence: Sequence) -> None:
        """Remember the committed part of `sequence`, whose tokens are the first of `ids`.

        Of two texts, one the beginning of the other, the shorter stays only where the longer cannot be rolled
        back to it, because the window has passed.
        """
        new = Snapshot(np.asarray(ids[: sequence.length], np.int32), sequence)
        for old in self._kept:
            if self._covers(old, new):
                self._touch(old)
                return
        for old in [old for old in self._kept if self._covers(new, old)]:
            self._forget(old)
        self._kept.append(Snapshot(new.ids, self._pages.fork(sequence)))
        if len(self._kept) > self._limit:
            self.evict()

    def evict(self) -> bool:
        """Let the least recently used go; False when there is none."""
        if not self._kept:
            return False
        self._forget(self._kept[0])
        return True

    def clear(self) -> None:
        """Forget everything."""
        while self.evict():
            pass

    def _touch(self, snapshot: Snapshot) -> None:
        self._kept.remove(snapshot)
        self._kept.append(snapshot)

    def _forget(self, snapshot: Snapshot) -> None:
        self._kept.remove(snapshot)
        self._pages.release(snapshot.sequence)

    def _covers(self, a: Snapshot, b: Snapshot) -> bool:
        """Whether `a` serves every text that `b` would, also b's own text, whose last token is run again."""
        length = len(b.ids)
        if _common(a.ids, b.ids) < length:
            return False
        return len(a.ids) == length or self._pages.can_truncate(a.sequence, length - 1)


def _common(a: Ints, b: Ints) -> int:
    """Length of the common beginning."""
    n = min(len(a), len(b))
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n
