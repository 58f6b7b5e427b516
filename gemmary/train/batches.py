"""Which rows each step trains on: a function of seed and step alone, so that resuming needs no position."""

from __future__ import annotations

import numpy as np

from ..ops.contract import Ints
from .data.rows import PackedShards
from .packing import Rows


class Batches:
    """`parts` micro-batches of `rows` rows a step; the rows of every epoch come in a new order."""

    def __init__(self, data: Rows | PackedShards, rows: int, parts: int, seed: int) -> None:
        if not len(data):
            raise ValueError("there is no data: not a single row was packed")
        self._data, self._rows, self._parts, self._seed = data, rows, parts, seed
        self._order = (-1, np.zeros(0, np.int32))  # that of one epoch, kept

    @property
    def digest(self) -> str:
        """That of the rows: a run goes on only with the data that it began with."""
        return self._data.digest

    def step(self, step: int) -> list[Rows]:
        """The micro-batches of `step`. Numbers run on from epoch to epoch, so that no row is left out."""
        count = self._rows * self._parts
        numbers = range(step * count, (step + 1) * count)
        chosen = np.array([self._row(*divmod(number, len(self._data))) for number in numbers])
        return [self._data.take(part) for part in np.split(chosen, self._parts)]

    def _row(self, epoch: int, place: int) -> int:
        if self._order[0] != epoch:
            self._order = (epoch, order(len(self._data), epoch, self._seed))
        return int(self._order[1][place])


def order(rows: int, epoch: int, seed: int) -> Ints:
    """A permutation of the rows, int32 [rows]."""
    return np.random.default_rng((seed, epoch)).permutation(rows).astype(np.int32)
