"""A tape: the kernels of a step in order, and the compiled loop that every thread runs over them.

An instruction has a kernel, its arguments, the number of its pieces (read when it runs: attention has more
the longer a text is), and whether all earlier instructions must be complete before it starts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from ...formats.jit import compiled_for
from .kernel import Kernel, address_of
from .threads import add, call, meet, read

_WORDS = 5  # kernel, arguments, address of the number of pieces, waits?, pieces taken
_KERNEL, _ARGUMENTS, _PIECES, _WAITS, _TAKEN = range(_WORDS)


class Tape:
    """Instructions. They point to arrays that whoever adds them keeps alive."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, int, int, int]] = []
        self._kept: list[tuple[np.ndarray, np.ndarray]] = []
        self._packed: np.ndarray | None = None

    def add(self, kernel: Kernel, pieces: int | np.ndarray, waits: bool = True, **arguments: Any) -> None:
        """Append an instruction. `pieces` is a number, or int64 [1] that is read when the instruction runs.

        A kernel that has an argument `pieces` is told the number.
        """
        if "pieces" in (kernel.fields.names or ()):
            arguments["pieces"] = pieces
        counted = pieces if isinstance(pieces, np.ndarray) else np.array([pieces], np.int64)
        record = kernel.arguments(**arguments)
        self._kept.append((counted, record))
        self._rows.append((kernel.address, address_of(record), address_of(counted), int(waits), 0))
        self._packed = None

    @property
    def words(self) -> np.ndarray:
        """int64 [instructions, 5]; the last word of each counts the pieces taken."""
        if self._packed is None:
            self._packed = np.array(self._rows, np.int64).reshape(-1, _WORDS)
        return self._packed

    def rewind(self) -> None:
        """No piece is taken."""
        self.words[:, _TAKEN] = 0


@compiled_for(types.void(types.intp, types.intp, types.intp, types.intp, types.intp))
def play(words: int, count: int, arrived: int, threads: int, spins: int) -> None:
    """One thread's part in a tape; returns when every thread's part is done. The last three: see `meet`."""
    for i in range(count):
        at = words + i * 8 * _WORDS
        if threads > 1 and read(at + 8 * _WAITS):
            meet(arrived, threads, spins)
        pieces = read(read(at + 8 * _PIECES))
        while True:
            piece = add(at + 8 * _TAKEN, 1)
            if piece >= pieces:
                break
            call(read(at + 8 * _KERNEL), read(at + 8 * _ARGUMENTS), piece)
    if threads > 1:
        meet(arrived, threads, spins)
