"""Snapshots of texts, so that what was read once is not read again.

A snapshot is references to pages, never a copy. Because bits do not depend on how a text was cut into steps,
an answer from a snapshot equals an answer from scratch. Texts are found by a chain of SHA-256 over blocks of
64 ids and then compared in full: no hash can be mistaken. The chain begins with what else the pages depend
on (`key`: the adapter, whose text it is): texts with another key never meet. A soft token's id tells its
picture apart (eyes.py).
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from collections.abc import Sequence as Ids
from dataclasses import dataclass

import numpy as np

from ..model.pages import Pages, Sequence
from ..ops.contract import Ints

BLOCK = 64  # ids


@dataclass(eq=False)
class Snapshot:
    """A text and its pages. chain: digests of its beginnings of 0, 64, 128, ... ids."""

    key: bytes
    ids: Ints
    sequence: Sequence
    chain: list[bytes]


class Snapshots:
    """Texts that were read, and their pages. The least recently used goes first."""

    def __init__(self, pages: Pages, limit: int) -> None:
        self._pages = pages
        self._limit = limit
        self._kept: OrderedDict[int, Snapshot] = OrderedDict()  # by identity, most recent last
        self._by_beginning: dict[bytes, OrderedDict[int, Snapshot]] = {}
        self.hits = self.misses = 0

    def __len__(self) -> int:
        return len(self._kept)

    def start(self, ids: Ids[int], key: bytes = b"") -> Sequence:
        """A sequence that already holds the longest usable beginning of `ids`, never all of it."""
        wanted = np.asarray(ids, np.int32)
        best, length = self._best(wanted, chain_of(wanted, key), key)
        if best is None:
            self.misses += 1
            return Sequence()
        self.hits += 1
        self._touch(best)
        sequence = self._pages.fork(best.sequence)
        self._pages.truncate(sequence, length)
        return sequence

    def keep(self, ids: Ids[int], sequence: Sequence, key: bytes = b"") -> None:
        """Remember the committed part of `sequence`, whose tokens are the first of `ids`.

        Of two texts, one the beginning of the other, the shorter stays only where the longer cannot be rolled
        back to it, because the window has passed.
        """
        held = np.asarray(ids[: sequence.length], np.int32)
        new = Snapshot(key, held, sequence, chain_of(held, key))
        related = list(self._alike(new.chain))
        for old in related:
            if self._covers(old, new):
                self._touch(old)
                return
        for old in related:
            if self._covers(new, old):
                self._forget(old)
        new.sequence = self._pages.fork(sequence)
        self._kept[id(new)] = new
        for digest in new.chain:
            self._by_beginning.setdefault(digest, OrderedDict())[id(new)] = new
        if len(self._kept) > self._limit:
            self.evict()

    def evict(self) -> bool:
        """Let the least recently used go; False when there is none."""
        if not self._kept:
            return False
        self._forget(next(iter(self._kept.values())))
        return True

    def clear(self) -> None:
        """Forget everything."""
        while self.evict():
            pass

    def _best(self, wanted: Ints, chain: list[bytes], key: bytes) -> tuple[Snapshot | None, int]:
        """What holds the longest beginning, and how long that is.

        Beginnings are tried from the longest on; what shares no more than n blocks cannot win where a text
        that shares more was usable.
        """
        best, length, tried = None, 0, set[int]()
        for blocks in range(len(chain) - 1, -1, -1):
            if length >= (blocks + 1) * BLOCK:
                break
            for number, snapshot in self._by_beginning.get(chain[blocks], {}).items():
                if number in tried or snapshot.key != key:
                    continue
                tried.add(number)
                end = (blocks + 1) * BLOCK  # what shares more was found with more blocks
                shared = min(_common(snapshot.ids[:end], wanted[:end]), len(wanted) - 1)
                if shared > length and self._pages.can_truncate(snapshot.sequence, shared):
                    best, length = snapshot, shared
        return best, length

    def _alike(self, chain: list[bytes]) -> Iterator[Snapshot]:
        """Texts that could be a beginning of this one, or it of theirs: they share its first blocks, or all
        of their own are among its blocks. Those with fewer ids than a block share the empty beginning.
        """
        seen = set[int]()
        for digest in chain:
            for number, snapshot in list(self._by_beginning.get(digest, {}).items()):
                shorter = len(snapshot.chain) <= len(chain)
                last = snapshot.chain[-1] if shorter else chain[-1]
                if number not in seen and last == digest:
                    seen.add(number)
                    yield snapshot

    def _touch(self, snapshot: Snapshot) -> None:
        self._kept.move_to_end(id(snapshot))

    def _forget(self, snapshot: Snapshot) -> None:
        del self._kept[id(snapshot)]
        for digest in set(snapshot.chain):
            alike = self._by_beginning[digest]
            del alike[id(snapshot)]
            if not alike:
                del self._by_beginning[digest]
        self._pages.release(snapshot.sequence)

    def _covers(self, a: Snapshot, b: Snapshot) -> bool:
        """Whether `a` serves every text that `b` would, also b's own text, whose last token is run again."""
        length = len(b.ids)
        if a.key != b.key or _common(a.ids, b.ids) < length:
            return False
        return len(a.ids) == length or self._pages.can_truncate(a.sequence, length - 1)


def chain_of(ids: Ints, key: bytes) -> list[bytes]:
    """Digests of the beginnings of 0, 64, 128, ... ids; each is made from the one before."""
    chain = [hashlib.sha256(key).digest()]
    for first in range(0, len(ids) - BLOCK + 1, BLOCK):
        block = ids[first : first + BLOCK].astype("<i4").tobytes()
        chain.append(hashlib.sha256(chain[-1] + block).digest())
    return chain


def _common(a: Ints, b: Ints) -> int:
    """Length of the common beginning."""
    n = min(len(a), len(b))
    different = np.flatnonzero(a[:n] != b[:n])
    return int(different[0]) if len(different) else n
