"""The scale that a run of values suffers least from, for symmetric codes low .. -low - 1."""

from __future__ import annotations

import numpy as np

from gemmary.formats.halves import Floats
from gemmary.formats.jit import inlined


@inlined
def largest(values: Floats) -> np.float32:
    """The value with the largest magnitude, with its sign; the first of equals."""
    found = np.float32(0)
    for j in range(values.size):
        if np.abs(values[j]) > np.abs(found):
            found = values[j]
    return found


@inlined
def clipped(x: np.float32, low: int) -> np.float32:
    """The code nearest to x, ties to even; 0 for what is no number."""
    q = np.rint(x)
    if not np.abs(q) < np.float32(2.0**30):
        return np.float32(0)
    return min(max(q, np.float32(low)), np.float32(-low - 1))


@inlined
def fitted(values: Floats, low: int, first: float, step: float, tries: int) -> np.float32:
    """The scale with the least squared error among a few.

    The largest value is given the code `first`, first + step, ... (beyond `low` it is clipped, and the others
    gain). Each try gives codes q, and to codes belongs one best scale: sum(x q) / sum(q q).
    """
    peak = largest(values)
    best = gain = np.float32(0)
    for t in range(tries):
        inverse = np.float32(first + t * step) / peak if peak != np.float32(0) else np.float32(0)
        xq = qq = np.float32(0)
        for j in range(values.size):
            q = clipped(values[j] * inverse, low)
            xq += values[j] * q
            qq += q * q
        if qq > np.float32(0) and xq * xq / qq > gain:
            best, gain = xq / qq, xq * xq / qq
    return best
