"""Memory for what operations compute: taken for an array, free again when Python drops the array.

A step records its operations in order, so an array that is dropped before another is taken is also used up
before the other is written, each time the recording is played.
"""

from __future__ import annotations

import weakref
from collections import defaultdict
from typing import Any

import numpy as np
import numpy.typing as npt

from .memory import aligned

_GRAIN = 4096  # sizes are rounded up to this, so that arrays of nearly one size share blocks


class Arena:
    """Blocks of memory by size. It must outlive the arrays."""

    def __init__(self) -> None:
        self._free: defaultdict[int, list[npt.NDArray[np.uint8]]] = defaultdict(list)

    def take(self, shape: tuple[int, ...], kind: Any = np.float32) -> npt.NDArray[Any]:
        """An uninitialised array."""
        nbytes = int(np.prod(shape)) * np.dtype(kind).itemsize
        size = -(-max(nbytes, 1) // _GRAIN) * _GRAIN
        free = self._free[size]
        block = free.pop() if free else aligned(size)
        array = block[:nbytes].view(kind).reshape(shape)
        weakref.finalize(array, free.append, block).atexit = False
        return array
