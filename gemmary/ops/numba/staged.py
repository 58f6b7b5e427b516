"""A step on its way through the layers: host numbers at fixed addresses, and the tape of operations."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...config import Rope
from ..contract import PAGE, Attention, Floats, Ints, Step
from .arena import Arena
from .rotary import angles
from .sight import RUN, Sight
from .tape import Tape
from .team import Team

_GROWTH = 64  # page tables grow by so many pages, so that a recording fits later steps of a longer text
_CUT = 16  # tokens of the largest step whose pages may be shared out to threads


class Staged:
    """What kernels read of a step. `load` puts the next step of the same shape in its place."""

    def __init__(self, step: Step, team: Team, recording: bool) -> None:
        self.team = team
        self.arena = Arena()
        self.tape = Tape()
        self.tokens = len(step.ids)
        self._recording = recording
        self._angles: dict[tuple[Rope, int], Floats] = {}
        self._sights: dict[Any, Sight] = {}
        self._tables: Ints | None = None
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
        for sight in self._sights.values():
            sight.look(step.seq, step.pos, self.last)
        if self._tables is not None:
            self._fill(self._tables)

    def fits(self, step: Step) -> bool:
        """Whether the page tables of a step have room here."""
        return self._tables is None or step.pages is None or step.pages.shape[2] <= self._tables.shape[2]

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

    def sight(self, attention: Attention, heads: tuple[int, int]) -> Sight:
        """What the tokens see in layers of a kind; heads: query heads, key/value heads."""
        key = attention.window, attention.head_dim, heads
        if key not in self._sights:
            shape = (*heads, attention.head_dim)
            pages = self.tables.shape[2]
            if attention.window is not None:
                pages = min(pages, attention.window // PAGE + 2)
            parts = self.tokens * (pages // RUN + 2) if self.tokens <= _CUT else 0
            sight = Sight(attention.window, shape, self.team.threads, self.tokens, parts)
            sight.look(self.seq, self.pos, self.last)
            self._sights[key] = sight
        return self._sights[key]

    @property
    def tables(self) -> Ints:
        """Page tables [S, 2, n], n with room to grow."""
        if self._tables is None:
            if self.step.pages is None:
                raise ValueError("the CPU engine attends over pages: put their table into the step")
            sequences, kinds, width = self.step.pages.shape
            self._tables = np.empty((sequences, kinds, -(-max(width, 1) // _GROWTH) * _GROWTH), np.int32)
            self._fill(self._tables)
        return self._tables

    def _fill(self, tables: Ints) -> None:
        pages: Any = self.step.pages
        tables[:, :, : pages.shape[2]] = pages


def _lists(step: Step) -> tuple[Ints, ...]:
    return step.pos, step.seq, step.last_seen, step.rows
