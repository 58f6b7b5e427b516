"""What is asked about the logits of hidden states: all of them, scores of given ids, or the best."""

from __future__ import annotations

import numpy as np

from ..contract import Candidates, Floats, Full, Scored, Targets, Want
from .activation import room, round_rows
from .head import Head
from .linear import PackedLinear, multiply
from .selection import Selection, joined
from .tape import Tape
from .team import Team

ROWS = 8  # rows whose full logits exist at once when only candidates or scores were asked for


class Output:
    """The tied table [V, D] as head, with the memory that its answers need.

    `head` finds candidates over a 16-bit table through its 6-bit plane (None: there is no plane).
    """

    def __init__(self, table: PackedLinear, team: Team) -> None:
        self._table, self._team = table, team
        self._selection = Selection(table.rows, ROWS, team)
        self._h = np.empty((ROWS, table.columns), np.float32)
        self._logits = np.empty((ROWS, table.rows), np.float32)  # untouched rows take no memory
        self._codes = room(ROWS, table.columns) if table.quantized else None
        self._tapes: dict[int, Tape] = {}
        self.head = (
            None
            if table.plane is None
            else Head(table.plane, table.format.name, table.raw, team, self._full, self._selection)
        )

    def answer(self, h: Floats, want: Want) -> Floats | Scored | Candidates:
        """h [R, D] -> float32 [R, V], `Scored` or `Candidates`."""
        if isinstance(want, Full):
            return self._full(h)
        if isinstance(want, Targets):
            return self._scored(h, want)
        if self.head is not None and self.head.takes(want):
            return self.head.top_k(h, want)
        some = [slice(start, start + ROWS) for start in range(0, len(h), ROWS)]
        parts = [self._selection.candidates(self._some(h[rows]), want.of(rows)) for rows in some]
        return parts[0] if len(parts) == 1 else joined(parts)

    def _scored(self, h: Floats, want: Targets) -> Scored:
        parts = [
            self._selection.scored(self._some(rows), ids)
            for rows, ids in zip(_split(h), _split(want.ids), strict=True)
        ]
        columns = ((part.logits, part.lse, part.best) for part in parts)
        return Scored(*(np.concatenate(arrays) for arrays in zip(*columns, strict=True)))

    def _full(self, h: Floats) -> Floats:
        """All logits [R, V], in new memory."""
        out = np.empty((len(h), self._table.rows), np.float32)
        for rows, to in zip(_split(h), _split(out), strict=True):
            to[:] = self._some(rows)
        return out

    def _some(self, h: Floats) -> Floats:
        """All logits of at most `ROWS` rows, in memory that the next call uses again."""
        rows = len(h)
        self._h[:rows] = h
        if rows not in self._tapes:
            self._tapes[rows] = self._record(rows)
        self._team.play(self._tapes[rows])
        return self._logits[:rows]

    def _record(self, rows: int) -> Tape:
        tape, table = Tape(), self._table
        source: np.ndarray = self._h
        if self._codes is not None:
            source = self._codes
            tape.add(round_rows, rows, x=self._h, codes=source, tokens=rows, columns=table.columns)
        multiply(tape, self._team, table, source, rows, self._logits, waits=True)
        return tape


def _split(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + ROWS] for start in range(0, len(rows), ROWS)]
