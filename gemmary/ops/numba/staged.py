"""A step on its way through the layers: host numbers at fixed addresses, and the tape of operations."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...config import Rope
from ..contract import Floats, Ints, Step
from .arena import Arena
from .rotary import angles
from .tape import Tape
from .team import Team

_TABLE_STEP = 64  # page tables grow by so many pages, so that a recording fits later steps of a longer text


class Staged:
    """What kernels read of a step. `load` puts the next step of the same shape in its place."""

    def __init__(self, step: Step, team: Team, recording: bool) -> None:
        self.team = team
        self.arena = Arena()
        self.tape = Tape()
        self.tokens = len(step.ids)
        self._recording = recording
        self._angles: dict[tuple[Rope, int], Floats] = {}
        self._first: dict[int | None, Ints] = {}
        self._tables: dict[int, Ints] = {}
        self.load(step)

    def load(self, step: Step) -> None:
        """Take the numbers of a step."""
        self.step = step
        if not hasattr(self, "pos"):
            self.pos, self.seq, self.last, self.rows = (np.empty_like(a) for a in _lists(step))
        for buffer, values in zip((self.pos, self.seq, self.last, self.rows), _lists(step), strict=True):
            buffer[:] = values
        for (rope, head), turn in self._angles.items():
            turn[:] = angles(step.pos, rope, head)
        for window, first in self._first.items():
            first[:] = _first(step, window)
        for kind, table in self._tables.items():
            self._fill(table, kind)

    def fits(self, step: Step) -> bool:
        """Whether the page tables of a step have room here."""
        width = 0 if step.pages is None else step.pages.shape[2]
        return all(width <= table.shape[1] for table in self._tables.values())

    def run(self, final: bool = False) -> None:
        """Compute what was put on the tape; while recording only at the end."""
        if final or not self._recording:
            self.team.play(self.tape)
        if not self._recording:
            self.tape = Tape()

    def turns(self, rope: Rope, head_dim: int) -> Floats:
        """Rotary angles [T, 2, H/2] of a base."""
        if (rope, head_dim) not in self._angles:
            self._angles[rope, head_dim] = angles(self.step.pos, rope, head_dim)
        return self._angles[rope, head_dim]

    def first(self, window: int | None) -> Ints:
        """The first position that each token sees [T]."""
        if window not in self._first:
            self._first[window] = _first(self.step, window)
        return self._first[window]

    def table(self, kind: int) -> Ints:
        """The page table of a kind [S, n]."""
        if kind not in self._tables:
            if self.step.pages is None:
                raise ValueError("the CPU engine attends over pages: put their table into the step")
            sequences, _, width = self.step.pages.shape
            width = -(-max(width, 1) // _TABLE_STEP) * _TABLE_STEP
            self._tables[kind] = np.empty((sequences, width), np.int32)
            self._fill(self._tables[kind], kind)
        return self._tables[kind]

    def _fill(self, table: Ints, kind: int) -> None:
        pages: Any = self.step.pages
        table[:, : pages.shape[2]] = pages[:, kind]


def _lists(step: Step) -> tuple[Ints, ...]:
    return step.pos, step.seq, step.last_seen, step.rows


def _first(step: Step, window: int | None) -> Ints:
    if window is None:
        return np.zeros_like(step.pos)
    return np.maximum(step.pos - np.int32(window - 1), 0)
