"""Memory for packed weights: large blocks, which the system can back with large pages.

A small array of its own sits on pages of 4 kB, and a product that reads one matrix after the other then
spends a quarter of its time on looking pages up.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_BLOCK = 1 << 26


def aligned(nbytes: int) -> npt.NDArray[np.uint8]:
    """New bytes that begin at a cache line."""
    memory = np.empty(nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + nbytes]


class WeightMemory:
    """Hands out pieces of blocks of 64 MB; a block lives as long as one of its pieces."""

    def __init__(self) -> None:
        self._block = aligned(0)

    def take(self, nbytes: int) -> npt.NDArray[np.uint8]:
        """Uninitialised bytes at a cache line."""
        if nbytes > _BLOCK // 2:
            return aligned(nbytes)
        size = -(-nbytes // 64) * 64
        if size > len(self._block):
            self._block = aligned(_BLOCK)
        piece, self._block = self._block[:nbytes], self._block[size:]
        return piece
