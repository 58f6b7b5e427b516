"""Windowed pages: where keys and values live (design note: docs/model.md).

A page holds 64 tokens of every layer of one kind. A sequence has two page lists: global layers keep every
page, local layers give back the pages that have left the window once a step is committed. Pages are counted
by reference: a fork is two lists and no copy, rolling back is a shorter length. Nothing is ever overwritten
that another sequence can read: a shared last page is copied before it is appended to.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..config import Config
from ..errors import MemoryBudgetError
from ..ops.contract import GLOBAL, LOCAL, PAGE, Ints, LayerPages, Ops

KINDS = (GLOBAL, LOCAL)


@dataclass
class Sequence:
    """The pages of one text: `length` committed tokens; per kind a list of page ids, -1 where dropped."""

    length: int = 0
    tables: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))


class Pool:
    """Free list and reference counts of one kind's pages."""

    def __init__(self, capacity: int) -> None:
        self._free = list(range(capacity - 1, -1, -1))
        self._counts = np.zeros(capacity, np.int32)

    @property
    def used(self) -> int:
        """Pages that some sequence holds."""
        return len(self._counts) - len(self._free)

    @property
    def free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    def take(self) -> int:
        """A page with one owner."""
        page = self._free.pop()
        self._counts[page] = 1
        return page

    def share(self, page: int) -> None:
        """One owner more."""
        self._counts[page] += 1

    def drop(self, page: int) -> None:
        """One owner less; the last one frees it."""
        self._counts[page] -= 1
        if not self._counts[page]:
            self._free.append(page)

    def shared(self, page: int) -> bool:
        """Whether somebody else reads this page too."""
        return bool(self._counts[page] > 1)


def page_bytes(config: Config, kind: int, number: float = 2) -> int:
    """Bytes of one page of a kind, over all its layers; `number`: bytes of each number of a key or value, and
    of its share of what else a page keeps.
    """
    globals_ = len(config.global_layers or ())
    layers = globals_ if kind == GLOBAL else config.layers - globals_
    return round(layers * 2 * config.kv_heads * config.head_dim * PAGE * number)


def pages_needed(config: Config, kind: int, tokens: int, chunk: int) -> int:
    """Most pages that one sequence of `tokens` holds, when steps add at most `chunk`."""
    kept = tokens if kind == GLOBAL else min(tokens, config.window + chunk)
    return -(-kept // PAGE) + 1


class Pages:
    """All sequences of one engine: allocation, sharing and the storage of every layer."""

    def __init__(self, ops: Ops, config: Config, capacity: tuple[int, int]) -> None:
        """`capacity` counts pages (global, local)."""
        self.config = config
        self._ops = ops
        self._pools = tuple(Pool(n) for n in capacity)
        self._kinds = [GLOBAL if config.is_global(i) else LOCAL for i in range(config.layers)]
        self.layers: list[LayerPages] = [
            ops.pages(capacity[kind], config.kv_heads, config.head_dim) for kind in self._kinds
        ]

    @property
    def bytes_used(self) -> int:
        """Bytes of the pages that sequences hold."""
        layers = zip(self._kinds, self.layers, strict=True)
        return sum(self._pools[kind].used * (x.keys[0].nbytes + x.values[0].nbytes) for kind, x in layers)

    @property
    def bytes_total(self) -> int:
        """Bytes of all pages; those that were never used take no memory yet."""
        return sum(layer.keys.nbytes + layer.values.nbytes for layer in self.layers)

    @property
    def counts(self) -> tuple[int, int]:
        """Pages that sequences hold, and all pages."""
        used = sum(pool.used for pool in self._pools)
        return used, used + sum(pool.free for pool in self._pools)

    def fork(self, sequence: Sequence) -> Sequence:
        """Another sequence with the same committed tokens; costs references, not copies."""
        used = -(-sequence.length // PAGE)
        copy = Sequence(sequence.length, (sequence.tables[GLOBAL][:used], sequence.tables[LOCAL][:used]))
        for kind in KINDS:
            for page in copy.tables[kind]:
                if page >= 0:
                    self._pools[kind].share(page)
        return copy

    def release(self, sequence: Sequence) -> None:
        """Give all pages back; the sequence is empty afterwards."""
        for kind in KINDS:
            self._cut(sequence, kind, 0)
        sequence.length = 0

    def room(self, sequence: Sequence, count: int) -> bool:
        """Whether `reserve` would succeed."""
        return all(self._pools[kind].free >= self._missing(sequence, kind, count) for kind in KINDS)

    def reserve(self, sequence: Sequence, count: int) -> None:
        """Make the next `count` positions writable. MemoryBudgetError leaves everything as it was."""
        if not self.room(sequence, count):
            raise MemoryBudgetError(
                "no free pages are left for this text: end another one, or load the model with more context"
            )
        for kind in KINDS:
            self._own_tail(sequence, kind)
            table = sequence.tables[kind]
            while len(table) * PAGE < sequence.length + count:
                table.append(self._pools[kind].take())

    def commit(self, sequence: Sequence, count: int) -> None:
        """`count` reserved tokens are written for good: local pages that left the window are given back.

        The next token, at position `length`, sees keys from length - window + 1 on. One key more is kept, so
        that the last token can always be rolled back: who asks the same thing again runs it once more.
        """
        sequence.length += count
        table = sequence.tables[LOCAL]
        for number in range(max(0, sequence.length - self.config.window) // PAGE - 1, -1, -1):
            if table[number] < 0:
                break
            self._pools[LOCAL].drop(table[number])
            table[number] = -1

    def can_truncate(self, sequence: Sequence, length: int) -> bool:
        """Whether the pages that position `length` would see are still held."""
        if length > sequence.length:
            return False
        first = max(0, length - self.config.window + 1) // PAGE
        return all(page >= 0 for page in sequence.tables[LOCAL][first : -(-length // PAGE)])

    def truncate(self, sequence: Sequence, length: int) -> None:
        """Roll back to `length` tokens, also when a step was reserved but not committed."""
        if not self.can_truncate(sequence, length):
            raise ValueError(f"cannot roll back from {sequence.length} to {length}: its window is gone")
        for kind in KINDS:
            self._cut(sequence, kind, -(-length // PAGE))
        sequence.length = length

    def table(self, sequences: list[Sequence]) -> Ints:
        """Page tables of a step: int32 [S, 2, n], -1 where there is no page."""
        width = max((len(s.tables[GLOBAL]) for s in sequences), default=0)
        table = np.full((len(sequences), 2, width), -1, np.int32)
        for row, sequence in zip(table, sequences, strict=True):
            for kind in KINDS:
                row[kind, : len(sequence.tables[kind])] = sequence.tables[kind]
        return table

    def _missing(self, sequence: Sequence, kind: int, count: int) -> int:
        table = sequence.tables[kind]
        new = max(0, -(-(sequence.length + count) // PAGE) - len(table))
        return new + self._tail_is_shared(sequence, kind)

    def _tail_is_shared(self, sequence: Sequence, kind: int) -> bool:
        """Whether the page that the next token goes to exists and has another owner."""
        number = sequence.length // PAGE
        table = sequence.tables[kind]
        return number < len(table) and self._pools[kind].shared(table[number])

    def _own_tail(self, sequence: Sequence, kind: int) -> None:
        if not self._tail_is_shared(sequence, kind):
            return
        number = sequence.length // PAGE
        page, copy = sequence.tables[kind][number], self._pools[kind].take()
        for layer_kind, store in zip(self._kinds, self.layers, strict=True):
            if layer_kind == kind:
                self._ops.copy_page(store, page, copy)
        self._pools[kind].drop(page)
        sequence.tables[kind][number] = copy

    def _cut(self, sequence: Sequence, kind: int, keep: int) -> None:
        table = sequence.tables[kind]
        for page in table[keep:]:
            if page >= 0:
                self._pools[kind].drop(page)
        del table[keep:]
